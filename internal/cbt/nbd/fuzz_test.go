package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// wire is a connection whose other side has said all beforehand and listens to nothing.
type wire struct{ io.Reader }

func (wire) Write(p []byte) (int, error)      { return len(p), nil }
func (wire) Close() error                     { return nil }
func (wire) LocalAddr() net.Addr              { return nil }
func (wire) RemoteAddr() net.Addr             { return nil }
func (wire) SetDeadline(time.Time) error      { return nil }
func (wire) SetReadDeadline(time.Time) error  { return nil }
func (wire) SetWriteDeadline(time.Time) error { return nil }

func numbers(parts ...any) []byte {
	var out bytes.Buffer
	for _, p := range parts {
		_ = binary.Write(&out, binary.BigEndian, p) // fixed sizes only
	}
	return out.Bytes()
}

func optionReply(option, reply uint32, body ...any) []byte {
	data := numbers(body...)
	return append(numbers(uint64(magicOptReply), option, reply, uint32(len(data))), data...)
}

// agreed is what a server says up to the end of the handshake, for an export of 1 MiB.
func agreed(context string) []byte {
	return bytes.Join([][]byte{
		numbers(uint64(magicHello), uint64(magicOption), uint16(flagFixedNewstyle)),
		optionReply(optStructured, repAck),
		optionReply(optSetMeta, repMeta, uint32(7), []byte(context)), optionReply(optSetMeta, repAck),
		optionReply(optGo, repInfo, uint16(infoExport), uint64(1<<20), uint16(FlagHasFlags)), optionReply(optGo, repAck),
	}, nil)
}

func chunk(flags, kind uint16, cookie uint64, body ...any) []byte {
	data := numbers(body...)
	return append(numbers(uint32(magicStructured), flags, kind, cookie, uint32(len(data))), data...)
}

// listen makes a client that hears what a server has said.
func listen(said []byte) (*Client, error) {
	c := &Client{contexts: map[string]uint32{}}
	c.use(wire{bytes.NewReader(said)})
	return c, c.handshake(context.Background(), "disk", Options{Contexts: []string{Allocation}})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	refused := &IOError{Number: 5, Text: "bad"}
	cases := []struct {
		name string
		said [][]byte
		want []Extent // of a status of 1000 bytes; nil is an error
		io   *IOError
	}{
		{"one extent", [][]byte{chunk(1, chunkStatus, 1, uint32(7), uint32(1000), uint32(3))}, []Extent{{0, 1000, 3}}, nil},
		{"the last is too long", [][]byte{chunk(1, chunkStatus, 1, uint32(7), uint32(9999), uint32(3))}, []Extent{{0, 1000, 3}}, nil},
		{"neighbors are joined over replies", [][]byte{
			chunk(1, chunkStatus, 1, uint32(7), uint32(10), uint32(1), uint32(20), uint32(0)),
			chunk(1, chunkStatus, 2, uint32(7), uint32(970), uint32(0)),
		}, []Extent{{0, 10, 1}, {10, 990, 0}}, nil},
		{"another context in between", [][]byte{
			chunk(0, chunkStatus, 1, uint32(8), uint32(1000), uint32(1)), chunk(1, chunkStatus, 1, uint32(7), uint32(1000), uint32(0)),
		}, []Extent{{0, 1000, 0}}, nil},
		{"an error", [][]byte{chunk(1, chunkError, 1, uint32(5), uint16(3), []byte("bad"))}, nil, refused},
		{"an error, then the end", [][]byte{chunk(0, chunkError, 1, uint32(5), uint16(3), []byte("bad")), chunk(1, chunkNone, 1)}, nil, refused},
		{"an error in a simple reply", [][]byte{numbers(uint32(magicSimple), uint32(5), uint64(1))}, nil, &IOError{Number: 5}},
		{"nothing", nil, nil, nil},
		{"no extents", [][]byte{chunk(1, chunkNone, 1)}, nil, nil},
		{"an empty extent", [][]byte{chunk(1, chunkStatus, 1, uint32(7), uint32(0), uint32(0))}, nil, nil},
		{"a cut extent", [][]byte{chunk(1, chunkStatus, 1, uint32(7), uint32(5))}, nil, nil},
		{"another cookie", [][]byte{chunk(1, chunkStatus, 9, uint32(7), uint32(1000), uint32(3))}, nil, nil},
		{"data", [][]byte{chunk(1, chunkData, 1, uint64(0), []byte("x"))}, nil, nil},
		{"a short error", [][]byte{chunk(1, chunkError, 1, uint16(5))}, nil, nil},
		{"a huge chunk", [][]byte{numbers(uint32(magicStructured), uint16(1), uint16(chunkStatus), uint64(1), uint32(1<<31))}, nil, nil},
		{"bad magic", [][]byte{numbers(uint32(1), uint64(0), uint64(0))}, nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, err := listen(append(agreed(Allocation), bytes.Join(c.said, nil)...))
			if err != nil {
				t.Fatal(err)
			}
			var got []Extent
			err = client.Status(t.Context(), Allocation, 0, 1000, func(e Extent) error {
				got = append(got, e)
				return nil
			})
			failed := (*IOError)(nil)
			switch {
			case c.io != nil && (!errors.As(err, &failed) || *failed != *c.io):
				t.Errorf("got error %v, want %v", err, c.io)
			case c.want == nil && err == nil:
				t.Errorf("got %v, want an error", got)
			case c.want != nil && (err != nil || len(got) != len(c.want)):
				t.Errorf("got %v, error %v; want %v", got, err, c.want)
			}
			for i := range c.want {
				if i < len(got) && got[i] != c.want[i] {
					t.Errorf("got %v, want %v", got, c.want)
				}
			}
		})
	}
}

func TestPartsOfARead(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		said [][]byte
		ok   bool
	}{
		{"in two, the last first", [][]byte{chunk(0, chunkData, 1, uint64(6), []byte("ghij")), chunk(1, chunkData, 1, uint64(0), []byte("abcdef"))}, true},
		{"with a hole", [][]byte{chunk(0, chunkData, 1, uint64(0), []byte("abcdef")), chunk(1, chunkHole, 1, uint64(6), uint32(4))}, true},
		{"a part is missing", [][]byte{chunk(1, chunkData, 1, uint64(0), []byte("abcdef"))}, false},
		{"behind the end", [][]byte{chunk(1, chunkData, 1, uint64(5), []byte("abcdef"))}, false},
		{"ahead of the begin", [][]byte{chunk(1, chunkHole, 1, ^uint64(0), uint32(4))}, false},
		{"a simple reply", [][]byte{numbers(uint32(magicSimple), uint32(0), uint64(1), []byte("abcdefghij"))}, false},
	}
	for _, c := range cases {
		client, err := listen(append(agreed(Allocation), bytes.Join(c.said, nil)...))
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Read(t.Context(), make([]byte, 10), 0); (err == nil) != c.ok {
			t.Errorf("%s: got error %v, want success: %v", c.name, err, c.ok)
		}
	}
}

// FuzzClient lets a server say anything: the client ends with an error, or with
// extents in order.
func FuzzClient(f *testing.F) {
	f.Add([]byte{}, chunk(1, chunkStatus, 1, uint32(7), uint32(1000), uint32(3)))
	f.Add([]byte{}, chunk(1, chunkError, 1, uint32(5), uint16(3), []byte("bad")))
	f.Add(numbers(uint64(magicHello), uint64(magicOption), uint16(1)), []byte{})
	f.Fuzz(func(t *testing.T, instead, then []byte) {
		hello := agreed(Allocation)
		if len(instead) > 0 {
			hello = instead
		}
		c, err := listen(append(hello, then...))
		if err != nil {
			return
		}
		end := uint64(0)
		err = c.Status(t.Context(), Allocation, 0, c.Size, func(e Extent) error {
			if e.Length == 0 || e.Offset != end || e.Offset+e.Length > c.Size {
				t.Errorf("extent %v behind byte %d of %d", e, end, c.Size)
			}
			end = e.Offset + e.Length
			return nil
		})
		if err == nil && end != c.Size {
			t.Errorf("the extents end at %d of %d", end, c.Size)
		}
	})
}

// FuzzServer lets a client say anything.
func FuzzServer(f *testing.F) {
	option := func(option uint32, data []byte) []byte {
		return append(numbers(uint64(magicOption), option, uint32(len(data))), data...)
	}
	meta := append(appendString(nil, "disk"), append(numbers(uint32(1)), appendString(nil, Allocation)...)...)
	enter := append(appendString(nil, "disk"), 0, 0)
	request := func(command uint16, offset uint64, length uint32) []byte {
		return numbers(uint32(magicRequest), uint16(0), command, uint64(1), offset, length)
	}
	f.Add(bytes.Join([][]byte{
		numbers(uint32(3)), option(optStructured, nil), option(optListMeta, append(appendString(nil, "disk"), 0, 0, 0, 0)), option(optSetMeta, meta), option(optGo, enter),
		request(cmdBlockStatus, 0, 4096), request(cmdRead, 100, 100), request(cmdWrite, 0, 3), []byte("abc"), request(cmdDisconnect, 0, 0),
	}, nil))
	f.Add(bytes.Join([][]byte{numbers(uint32(1)), option(optInfo, enter), option(optAbort, nil)}, nil))
	f.Add(bytes.Join([][]byte{numbers(uint32(1)), option(optSetMeta, append(appendString(nil, "disk"), 0xff, 0xff, 0xff, 0xff))}, nil))
	f.Fuzz(func(t *testing.T, said []byte) {
		s := &Server{exports: map[string]*entry{}, conns: map[net.Conn]bool{}}
		s.Add("disk", Served{Size: 4096, Data: bytes.NewReader(make([]byte, 4096)), Contexts: map[string]Context{
			Allocation: {Walk: func(_, _ uint64, each func(Extent) error) error { return each(Extent{1000, 1000, 3}) }},
		}})
		newPeer(s, wire{bytes.NewReader(said)}).serve()
	})
}
