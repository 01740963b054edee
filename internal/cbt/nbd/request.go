package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

type request struct {
	flags, command uint16
	offset         uint64
	length         uint32
	data           []byte
}

func (c *Client) request(q request) error {
	c.cookie++
	var head [28]byte
	binary.BigEndian.PutUint32(head[0:], magicRequest)
	binary.BigEndian.PutUint16(head[4:], q.flags)
	binary.BigEndian.PutUint16(head[6:], q.command)
	binary.BigEndian.PutUint64(head[8:], c.cookie)
	binary.BigEndian.PutUint64(head[16:], q.offset)
	binary.BigEndian.PutUint32(head[24:], q.length)
	if _, err := c.w.Write(head[:]); err != nil {
		return err
	}
	if _, err := c.w.Write(q.data); err != nil {
		return err
	}
	return c.w.Flush()
}

// roundTrip sends a request and hands on the chunks of its reply. body reads the
// chunk's payload of n bytes from c.r, all of it, unless it returns an error.
func (c *Client) roundTrip(ctx context.Context, q request, body func(kind uint16, n uint32) error) error {
	release := c.bind(ctx)
	defer release()
	err := c.request(q)
	if err == nil {
		err = c.reply(q, body)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *Client) reply(q request, body func(kind uint16, n uint32) error) error {
	var refused error
	for {
		var head [20]byte
		if _, err := io.ReadFull(c.r, head[:4]); err != nil {
			return fmt.Errorf("read reply: %w", err)
		}
		switch binary.BigEndian.Uint32(head[:]) {
		case magicSimple:
			return c.simple(q, head[:16], body)
		case magicStructured:
		default:
			return errors.New("nbd: bad magic of a reply")
		}
		if _, err := io.ReadFull(c.r, head[4:]); err != nil {
			return fmt.Errorf("read reply: %w", err)
		}
		flags, kind, n := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:]), binary.BigEndian.Uint32(head[16:])
		if binary.BigEndian.Uint64(head[8:]) != c.cookie || n > chunkLimit {
			return errors.New("nbd: bad reply")
		}
		err := c.chunk(kind, n, body)
		if ioErr := (*IOError)(nil); errors.As(err, &ioErr) {
			refused = err
		} else if err != nil {
			return err
		}
		if flags&chunkFlagDone != 0 {
			return refused
		}
	}
}

// simple reads the rest of a reply without structure: data follows for reads alone.
func (c *Client) simple(q request, head []byte, body func(kind uint16, n uint32) error) error {
	if _, err := io.ReadFull(c.r, head[4:]); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	if binary.BigEndian.Uint64(head[8:]) != c.cookie {
		return errors.New("nbd: bad reply")
	}
	if number := binary.BigEndian.Uint32(head[4:]); number != 0 {
		return &IOError{Number: number}
	}
	if q.command != cmdRead {
		return nil
	}
	if c.structured {
		return errors.New("nbd: a simple reply to a read where structured ones were agreed on")
	}
	return body(chunkNone, q.length)
}

func (c *Client) chunk(kind uint16, n uint32, body func(kind uint16, n uint32) error) error {
	switch {
	case kind&chunkErrorBit != 0:
		return c.errorChunk(n)
	case kind == chunkNone && n == 0:
		return nil
	case body == nil || kind == chunkNone:
		return fmt.Errorf("nbd: unexpected chunk %d", kind)
	}
	return body(kind, n)
}

func (c *Client) errorChunk(n uint32) error {
	data := make([]byte, n)
	if _, err := io.ReadFull(c.r, data); err != nil {
		return fmt.Errorf("read error of a reply: %w", err)
	}
	if n < 6 {
		return errors.New("nbd: short error in a reply")
	}
	end := min(int(n), 6+int(binary.BigEndian.Uint16(data[4:])))
	return &IOError{Number: binary.BigEndian.Uint32(data), Text: string(data[6:end])}
}

// Read fills p from an offset of the export.
func (c *Client) Read(ctx context.Context, p []byte, offset uint64) error {
	if offset > c.Size || uint64(len(p)) > c.Size-offset {
		return fmt.Errorf("nbd: read behind the end: %w", io.ErrUnexpectedEOF)
	}
	for len(p) > 0 {
		part := p[:min(len(p), requestMax)]
		if err := c.readPart(ctx, part, offset); err != nil {
			return err
		}
		p, offset = p[len(part):], offset+uint64(len(part))
	}
	return nil
}

func (c *Client) readPart(ctx context.Context, p []byte, offset uint64) error {
	filled := uint64(0)
	err := c.roundTrip(ctx, request{command: cmdRead, offset: offset, length: uint32(len(p))}, func(kind uint16, n uint32) error {
		part, err := c.place(p, offset, kind, n)
		if err != nil {
			return err
		}
		filled += uint64(len(part))
		if kind == chunkHole {
			clear(part)
			return nil
		}
		_, err = io.ReadFull(c.r, part)
		return err
	})
	if err == nil && filled != uint64(len(p)) {
		return errors.New("nbd: the server left out a part of a read")
	}
	return err
}

// place reads where in p a chunk belongs and checks that it does.
func (c *Client) place(p []byte, offset uint64, kind uint16, n uint32) ([]byte, error) {
	var head [12]byte
	at, length := offset, uint64(n)
	switch {
	case kind == chunkNone: // all of a simple reply
	case kind == chunkData && n >= 8:
		if _, err := io.ReadFull(c.r, head[:8]); err != nil {
			return nil, err
		}
		at, length = binary.BigEndian.Uint64(head[:]), uint64(n-8)
	case kind == chunkHole && n == 12:
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return nil, err
		}
		at, length = binary.BigEndian.Uint64(head[:]), uint64(binary.BigEndian.Uint32(head[8:]))
	default:
		return nil, fmt.Errorf("nbd: chunk %d in a read", kind)
	}
	size := uint64(len(p))
	if at < offset || at-offset > size || length > size-(at-offset) {
		return nil, errors.New("nbd: data outside of what was asked for")
	}
	return p[at-offset : at-offset+length], nil
}

// Write writes p at an offset. It is durable after Flush.
func (c *Client) Write(ctx context.Context, p []byte, offset uint64) error {
	for len(p) > 0 {
		part := p[:min(len(p), requestMax)]
		q := request{command: cmdWrite, offset: offset, length: uint32(len(part)), data: part}
		if err := c.roundTrip(ctx, q, nil); err != nil {
			return err
		}
		p, offset = p[len(part):], offset+uint64(len(part))
	}
	return nil
}

// WriteZeroes makes a range read as zeros without sending them.
func (c *Client) WriteZeroes(ctx context.Context, offset, length uint64) error {
	for length > 0 {
		n := min(length, 1<<30)
		if err := c.roundTrip(ctx, request{command: cmdWriteZeroes, offset: offset, length: uint32(n)}, nil); err != nil {
			return err
		}
		offset, length = offset+n, length-n
	}
	return nil
}

// Flush returns when what was written is on the disk.
func (c *Client) Flush(ctx context.Context) error {
	return c.roundTrip(ctx, request{command: cmdFlush}, nil)
}
