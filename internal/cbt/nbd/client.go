// Package nbd reads disks, and what changed on them, over the NBD protocol: a client
// and a small read-only server.
//
// A connection begins with options (fixed newstyle): TLS, structured replies, meta
// contexts, and the export's name. Then come requests. A meta context is a second
// layer over the export's bytes: base:allocation says what is a hole, and
// qemu:dirty-bitmap:<name> what a bitmap of QEMU has marked.
//
//	client, err := nbd.Dial(ctx, "unix", socket, "disk0", nbd.Options{Contexts: []string{nbd.Allocation}})
//	err = client.Status(ctx, nbd.Allocation, 0, client.Size, func(e nbd.Extent) error { … })
//
// The client speaks with QEMU, nbdkit and qemu-nbd; the server serves nbdinfo,
// nbdcopy and qemu-img. After an error that is no *IOError a client is of no use.
package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Options of a connection. Zero is plain and without contexts.
type Options struct {
	// TLS, if set, is started before anything is asked.
	TLS *tls.Config
	// Contexts to negotiate; Dial fails if the export lacks one.
	Contexts []string
}

// A Client is a connection to one export. One goroutine at a time may use it.
type Client struct {
	Size  uint64 // of the export, in bytes
	Flags uint16 // transmission flags

	conn       net.Conn
	r          *bufio.Reader
	w          *bufio.Writer
	contexts   map[string]uint32 // negotiated: name to id
	structured bool
	cookie     uint64
}

// Dial connects to an export. ctx bounds the handshake.
func Dial(ctx context.Context, network, address, export string, o Options) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to NBD server: %w", err)
	}
	c := &Client{contexts: map[string]uint32{}}
	c.use(conn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := c.handshake(ctx, export, o); err != nil {
		c.conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("open export %q: %w", export, err)
	}
	return c, nil
}

func (c *Client) use(conn net.Conn) {
	c.conn, c.r, c.w = conn, bufio.NewReaderSize(conn, 256<<10), bufio.NewWriterSize(conn, 64<<10)
}

func (c *Client) handshake(ctx context.Context, export string, o Options) error {
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(c.r, binary.BigEndian, &hello); err != nil {
		return fmt.Errorf("read greeting: %w", err)
	}
	if hello.Magic != magicHello || hello.Option != magicOption || hello.Flags&flagFixedNewstyle == 0 {
		return errors.New("nbd: the server does not speak fixed newstyle")
	}
	if err := binary.Write(c.w, binary.BigEndian, uint32(hello.Flags&(flagFixedNewstyle|flagNoZeroes))); err != nil {
		return err
	}
	if o.TLS != nil {
		if err := c.startTLS(ctx, o.TLS); err != nil {
			return err
		}
	}
	if err := c.askStructured(len(o.Contexts) > 0); err != nil {
		return err
	}
	if err := c.askContexts(export, o.Contexts); err != nil {
		return err
	}
	return c.enter(export)
}

func (c *Client) startTLS(ctx context.Context, config *tls.Config) error {
	if err := c.option(optStartTLS, nil, nil); err != nil {
		return err
	}
	if c.r.Buffered() > 0 {
		return errors.New("nbd: the server sent something ahead of TLS")
	}
	secure := tls.Client(c.conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	c.use(secure)
	return nil
}

// askStructured asks for structured replies, without which there are no contexts.
func (c *Client) askStructured(needed bool) error {
	err := c.option(optStructured, nil, nil)
	if refused := (*OptionError)(nil); errors.As(err, &refused) && !needed {
		return nil
	}
	c.structured = err == nil
	return err
}

func (c *Client) askContexts(export string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	data := appendString(nil, export)
	data = binary.BigEndian.AppendUint32(data, uint32(len(names)))
	for _, name := range names {
		data = appendString(data, name)
	}
	err := c.option(optSetMeta, data, func(reply uint32, body []byte) {
		if reply == repMeta && len(body) >= 4 {
			c.contexts[string(body[4:])] = binary.BigEndian.Uint32(body)
		}
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := c.contexts[name]; !ok {
			return fmt.Errorf("nbd: it has no context %q", name)
		}
	}
	return nil
}

// enter chooses the export, which ends the handshake.
func (c *Client) enter(export string) error {
	known := false
	data := appendString(nil, export)
	data = binary.BigEndian.AppendUint16(data, 0) // no further information is asked for
	err := c.option(optGo, data, func(reply uint32, body []byte) {
		if reply == repInfo && len(body) >= 12 && binary.BigEndian.Uint16(body) == infoExport {
			c.Size, c.Flags, known = binary.BigEndian.Uint64(body[2:]), binary.BigEndian.Uint16(body[10:]), true
		}
	})
	if err == nil && !known {
		return errors.New("nbd: the server did not tell the export's size")
	}
	return err
}

func appendString(data []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(data, uint32(len(s))), s...)
}

// option sends one option and hands on its replies up to the last.
func (c *Client) option(option uint32, data []byte, each func(reply uint32, body []byte)) error {
	head := binary.BigEndian.AppendUint64(nil, magicOption)
	head = binary.BigEndian.AppendUint32(head, option)
	head = binary.BigEndian.AppendUint32(head, uint32(len(data)))
	if _, err := c.w.Write(append(head, data...)); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	for {
		reply, body, err := c.optionReply(option)
		switch {
		case err != nil:
			return err
		case reply == repAck:
			return nil
		case reply&repError != 0:
			return &OptionError{option, reply, string(body)}
		case each != nil:
			each(reply, body)
		}
	}
}

func (c *Client) optionReply(option uint32) (uint32, []byte, error) {
	var head struct {
		Magic                 uint64
		Option, Reply, Length uint32
	}
	if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
		return 0, nil, fmt.Errorf("read reply to option %d: %w", option, err)
	}
	if head.Magic != magicOptReply || head.Option != option || head.Length > optionReplyLimit {
		return 0, nil, errors.New("nbd: bad reply to an option")
	}
	body := make([]byte, head.Length)
	_, err := io.ReadFull(c.r, body)
	return head.Reply, body, err
}

// Close ends the connection; the server is told.
func (c *Client) Close() error {
	if err := c.conn.SetDeadline(time.Now().Add(time.Second)); err == nil {
		_ = c.request(request{command: cmdDisconnect})
	}
	return c.conn.Close()
}

// bind makes the requests until release end when ctx does.
func (c *Client) bind(ctx context.Context) (release func()) {
	var once sync.WaitGroup
	once.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer once.Done()
		c.conn.Close()
	})
	return func() {
		if !stop() {
			once.Wait()
		}
	}
}
