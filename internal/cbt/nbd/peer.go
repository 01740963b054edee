package nbd

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"
)

// handshakeWait bounds a client's handshake.
const handshakeWait = 10 * time.Second

// peer is a client of a server, on its own goroutine.
type peer struct {
	server *Server
	plain  net.Conn // what the server knows the client by
	conn   net.Conn // the same, or TLS over it
	r      *bufio.Reader
	w      *bufio.Writer
	secure bool

	structured bool
	contexts   []string // negotiated for named; the id is the index
	named      string
	served     Served
}

var errDone = errors.New("the client is done")

func newPeer(s *Server, conn net.Conn) *peer {
	p := &peer{server: s, plain: conn}
	p.use(conn)
	return p
}

func (p *peer) use(conn net.Conn) {
	p.conn, p.r, p.w = conn, bufio.NewReader(conn), bufio.NewWriterSize(conn, 64<<10)
}

// serve talks until the client leaves or breaks the protocol: either way the
// connection's end is the only answer.
func (p *peer) serve() {
	if p.conn.SetDeadline(time.Now().Add(handshakeWait)) != nil || p.greet() != nil {
		return
	}
	for {
		chosen, err := p.option()
		if err != nil {
			return
		}
		if chosen {
			break
		}
	}
	if p.conn.SetDeadline(time.Time{}) != nil {
		return
	}
	for p.request() == nil {
	}
}

func (p *peer) greet() error {
	hello := binary.BigEndian.AppendUint64(nil, magicHello)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if err := p.send(hello); err != nil {
		return err
	}
	var flags uint32
	return binary.Read(p.r, binary.BigEndian, &flags)
}

func (p *peer) send(parts ...[]byte) error {
	for _, part := range parts {
		if _, err := p.w.Write(part); err != nil {
			return err
		}
	}
	return p.w.Flush()
}

// option answers one option; chosen says that an export was entered.
func (p *peer) option() (chosen bool, err error) {
	var head struct {
		Magic          uint64
		Option, Length uint32
	}
	if err := binary.Read(p.r, binary.BigEndian, &head); err != nil {
		return false, err
	}
	if head.Magic != magicOption || head.Length > optionDataLimit {
		return false, errors.New("bad option")
	}
	data := make([]byte, head.Length)
	if _, err := io.ReadFull(p.r, data); err != nil {
		return false, err
	}
	if p.server.tls != nil && !p.secure && head.Option != optStartTLS && head.Option != optAbort {
		return false, p.answer(head.Option, repErrTLSNeeded, nil)
	}
	switch head.Option {
	case optAbort:
		_ = p.answer(optAbort, repAck, nil)
		return false, errDone
	case optStartTLS:
		return false, p.startTLS()
	case optStructured:
		p.structured = true
		return false, p.answer(optStructured, repAck, nil)
	case optListMeta, optSetMeta:
		return false, p.meta(head.Option, data)
	case optInfo, optGo:
		return p.choose(head.Option, data)
	}
	return false, p.answer(head.Option, repErrUnsup, nil)
}

func (p *peer) answer(option, reply uint32, body []byte) error {
	head := binary.BigEndian.AppendUint64(nil, magicOptReply)
	head = binary.BigEndian.AppendUint32(head, option)
	head = binary.BigEndian.AppendUint32(head, reply)
	head = binary.BigEndian.AppendUint32(head, uint32(len(body)))
	return p.send(head, body)
}

func (p *peer) startTLS() error {
	if p.server.tls == nil || p.secure {
		return p.answer(optStartTLS, repErrPolicy, nil)
	}
	if err := p.answer(optStartTLS, repAck, nil); err != nil {
		return err
	}
	if p.r.Buffered() > 0 {
		return errors.New("data ahead of TLS")
	}
	secure := tls.Server(p.conn, p.server.tls)
	if err := secure.Handshake(); err != nil {
		return err
	}
	p.use(secure)
	p.secure = true
	return nil
}

// meta answers a query or a choice of contexts.
func (p *peer) meta(option uint32, data []byte) error {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 4 || !p.structured {
		return p.answer(option, repErrInvalid, nil)
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	served, ok := p.server.lookup(name)
	if !ok {
		return p.answer(option, repErrUnknown, nil)
	}
	known := slices.Sorted(maps.Keys(served.Contexts))
	var found []string
	for range count {
		query, after, ok := cutString(rest)
		if !ok {
			return p.answer(option, repErrInvalid, nil)
		}
		rest = after
		for _, context := range known {
			if context == query || option == optListMeta && strings.HasSuffix(query, ":") && strings.HasPrefix(context, query) {
				found = append(found, context)
			}
		}
	}
	if option == optListMeta && count == 0 {
		found = known
	}
	if option == optSetMeta {
		slices.Sort(found)
		found = slices.Compact(found)
		p.contexts, p.named = found, name
	}
	for id, context := range found {
		if err := p.answer(option, repMeta, append(binary.BigEndian.AppendUint32(nil, uint32(id)), context...)); err != nil {
			return err
		}
	}
	return p.answer(option, repAck, nil)
}

func (p *peer) choose(option uint32, data []byte) (bool, error) {
	name, _, ok := cutString(data)
	if !ok {
		return false, p.answer(option, repErrInvalid, nil)
	}
	served, ok := p.server.lookup(name)
	if !ok || option == optGo && !p.server.enter(name, p.plain) {
		return false, p.answer(option, repErrUnknown, nil)
	}
	if p.named != name {
		p.contexts = nil // they were agreed on for another export
	}
	p.served = served
	info := binary.BigEndian.AppendUint16(nil, infoExport)
	info = binary.BigEndian.AppendUint64(info, served.Size)
	info = binary.BigEndian.AppendUint16(info, FlagHasFlags|FlagReadOnly)
	sizes := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, n := range []uint32{1, 64 << 10, requestMax} {
		sizes = binary.BigEndian.AppendUint32(sizes, n)
	}
	return option == optGo, cmp.Or(p.answer(option, repInfo, info), p.answer(option, repInfo, sizes), p.answer(option, repAck, nil))
}

func cutString(data []byte) (s string, rest []byte, ok bool) {
	if len(data) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(data)
	if data = data[4:]; uint64(n) > uint64(len(data)) {
		return "", nil, false
	}
	return string(data[:n]), data[n:], true
}
