package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Status calls each with the extents of a negotiated context in [offset,
// offset+length), by rising offset, without gaps, neighbors of equal flags joined.
// An error of each ends the walk and is returned.
func (c *Client) Status(ctx context.Context, name string, offset, length uint64, each func(Extent) error) error {
	id, ok := c.contexts[name]
	if !ok {
		return fmt.Errorf("nbd: context %q was not negotiated", name)
	}
	if offset > c.Size || length > c.Size-offset {
		return fmt.Errorf("nbd: status behind the end: %w", io.ErrUnexpectedEOF)
	}
	var held Extent
	for end := offset + length; offset < end; {
		extents, err := c.statusPart(ctx, id, offset, end)
		if err != nil {
			return err
		}
		for _, e := range extents {
			offset = e.Offset + e.Length
			if held.Length > 0 && held.Flags == e.Flags {
				held.Length += e.Length
				continue
			}
			if err := give(held, each); err != nil {
				return err
			}
			held = e
		}
	}
	return give(held, each)
}

func give(e Extent, each func(Extent) error) error {
	if e.Length == 0 {
		return nil
	}
	return each(e)
}

// statusPart asks once. The server answers for as much as it likes, a byte at least,
// and its last extent may go beyond what was asked.
func (c *Client) statusPart(ctx context.Context, id uint32, offset, end uint64) ([]Extent, error) {
	var extents []Extent
	q := request{command: cmdBlockStatus, offset: offset, length: uint32(min(end-offset, statusMax))}
	err := c.roundTrip(ctx, q, func(kind uint16, n uint32) error {
		if kind != chunkStatus || n < 4 || (n-4)%extentSize != 0 {
			return fmt.Errorf("nbd: chunk %d of %d bytes in a block status", kind, n)
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(data) != id {
			return nil
		}
		for data = data[4:]; len(data) > 0 && offset < end; data = data[extentSize:] {
			length := min(uint64(binary.BigEndian.Uint32(data)), end-offset)
			if length == 0 {
				return errors.New("nbd: an empty extent")
			}
			extents = append(extents, Extent{offset, length, binary.BigEndian.Uint32(data[4:])})
			offset += length
		}
		return nil
	})
	if err == nil && len(extents) == 0 {
		return nil, errors.New("nbd: the server gave no extents")
	}
	return extents, err
}
