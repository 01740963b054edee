package nbd

import (
	"encoding/binary"
	"errors"
	"io"
)

// asked is a request as it came in.
type asked struct {
	flags, command uint16
	cookie, offset uint64
	length         uint32
}

func (p *peer) request() error {
	var head [28]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(head[:]) != magicRequest {
		return errors.New("bad request")
	}
	q := asked{
		flags: binary.BigEndian.Uint16(head[4:]), command: binary.BigEndian.Uint16(head[6:]),
		cookie: binary.BigEndian.Uint64(head[8:]), offset: binary.BigEndian.Uint64(head[16:]), length: binary.BigEndian.Uint32(head[24:]),
	}
	switch q.command {
	case cmdDisconnect:
		return errDone
	case cmdRead, cmdBlockStatus:
		if q.length == 0 || q.offset > p.served.Size || uint64(q.length) > p.served.Size-q.offset {
			return p.refuse(q, errnoInvalid)
		}
		if q.command == cmdBlockStatus {
			return p.status(q)
		}
		return p.read(q)
	case cmdWrite: // its data has to be taken off the wire
		if _, err := io.CopyN(io.Discard, p.r, int64(q.length)); err != nil {
			return err
		}
		return p.refuse(q, errnoPerm)
	}
	return p.refuse(q, errnoInvalid)
}

func (p *peer) read(q asked) error {
	if q.length > requestMax {
		return p.refuse(q, errnoInvalid)
	}
	data := make([]byte, q.length)
	if n, err := p.served.Data.ReadAt(data, int64(q.offset)); n < len(data) && err != nil {
		return p.refuse(q, errnoIO)
	}
	if !p.structured {
		return p.send(simpleHead(q, 0), data)
	}
	return p.send(chunkHead(q, chunkData, chunkFlagDone, 8+len(data)), binary.BigEndian.AppendUint64(nil, q.offset), data)
}

func (p *peer) refuse(q asked, number uint32) error {
	if !p.structured {
		return p.send(simpleHead(q, number))
	}
	body := binary.BigEndian.AppendUint32(nil, number)
	body = binary.BigEndian.AppendUint16(body, 0)
	return p.send(chunkHead(q, chunkError, chunkFlagDone, len(body)), body)
}

// status answers with one chunk for each context that was agreed on.
func (p *peer) status(q asked) error {
	if len(p.contexts) == 0 {
		return p.refuse(q, errnoInvalid)
	}
	capacity := statusCapacity
	if q.flags&cmdFlagReqOne != 0 {
		capacity = 1
	}
	var chunks [][]byte
	for id, name := range p.contexts {
		body, err := describe(p.served.Contexts[name], q, capacity)
		if err != nil {
			return p.refuse(q, errnoIO)
		}
		flags := uint16(0)
		if id == len(p.contexts)-1 {
			flags = chunkFlagDone
		}
		chunks = append(chunks, chunkHead(q, chunkStatus, flags, 4+len(body)), binary.BigEndian.AppendUint32(nil, uint32(id)), body)
	}
	return p.send(chunks...)
}

var errFull = errors.New("the reply is full")

// describe lists the extents of a context without gaps, as many as fit.
func describe(c Context, q asked, capacity int) ([]byte, error) {
	var body []byte
	at, end := q.offset, q.offset+uint64(q.length)
	add := func(to uint64, flags uint32) error {
		if to <= at {
			return nil
		}
		if len(body) >= capacity*extentSize {
			return errFull
		}
		body = binary.BigEndian.AppendUint32(body, uint32(to-at))
		body = binary.BigEndian.AppendUint32(body, flags)
		at = to
		return nil
	}
	err := c.Walk(q.offset, uint64(q.length), func(e Extent) error {
		if e.Offset+e.Length <= at || e.Offset >= end {
			return nil
		}
		if err := add(e.Offset, c.Default); err != nil {
			return err
		}
		return add(min(e.Offset+e.Length, end), e.Flags)
	})
	if err == nil {
		err = add(end, c.Default)
	}
	if errors.Is(err, errFull) {
		return body, nil
	}
	return body, err
}

func simpleHead(q asked, number uint32) []byte {
	head := binary.BigEndian.AppendUint32(nil, magicSimple)
	head = binary.BigEndian.AppendUint32(head, number)
	return binary.BigEndian.AppendUint64(head, q.cookie)
}

func chunkHead(q asked, kind, flags uint16, length int) []byte {
	head := binary.BigEndian.AppendUint32(nil, magicStructured)
	head = binary.BigEndian.AppendUint16(head, flags)
	head = binary.BigEndian.AppendUint16(head, kind)
	head = binary.BigEndian.AppendUint64(head, q.cookie)
	return binary.BigEndian.AppendUint32(head, uint32(length))
}
