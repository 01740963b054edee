// Package qmp speaks QEMU's machine protocol: JSON values over a stream, a greeting
// first, then commands with ids, their replies, and events in between.
//
//	client, err := qmp.Dial(ctx, "unix", "/run/vm1/takt.qmp")
//	err = client.Do(ctx, "query-status", nil, &status)
//
// A monitor serves one client at a time. A second one is connected and hears
// nothing until the first leaves; Dial gives up on it after GreetingWait with
// ErrBusy. So connections are short: one for each step of work.
//
// A client does not reconnect. When the connection is lost nobody knows whether the
// command that was under way was carried out, and only its caller knows what to ask
// to find out: all that wait get ErrLost, and so do all later calls. The caller
// dials again and looks at the state before it acts.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// GreetingWait is how long a monitor may take to greet. A free one takes a
	// millisecond.
	GreetingWait = 2 * time.Second
	// negotiationWait is how long the first command may take, which does nothing. The
	// greeting comes from a thread of its own and says little of the others.
	negotiationWait = 5 * time.Second
	// CommandWait bounds a command whose context has no deadline. None takes longer
	// than that unless QEMU hangs; long work runs as jobs.
	CommandWait = 30 * time.Second
	// messageLimit bounds one reply, in bytes: a list of some thousand nodes.
	messageLimit = 64 << 20
	eventsKept   = 256
)

var (
	// ErrBusy: the monitor has another client.
	ErrBusy = errors.New("qmp: no greeting in time: the monitor has another client")
	// ErrLost: the connection ended. Whether the command was done is not known.
	ErrLost = errors.New("qmp: connection lost")
)

// An Error is QEMU's refusal of a command. Nearly all are of class GenericError:
// judge by asking for the state, not by the text.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"`
	Text    string `json:"desc"`
}

func (e *Error) Error() string { return fmt.Sprintf("qmp %s: %s: %s", e.Command, e.Class, e.Text) }

// An Event is what QEMU tells unasked.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// Version of the QEMU that greeted.
type Version struct{ Major, Minor, Micro int }

// A Client is one connection to a monitor. Many goroutines may use it.
type Client struct {
	// Version of QEMU.
	Version Version
	// Events come here, and the channel is closed with the connection. One that finds
	// 256 unread is dropped: an event is a hint, the truth is asked for.
	Events <-chan Event

	conn   net.Conn
	events chan Event
	read   chan struct{} // closed when the reader has ended

	writing sync.Mutex // held while a command is written

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[string]chan message
	lost    error
}

// message is whatever QEMU sends.
type message struct {
	ID     string          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`
	Event
}

// Dial connects, awaits the greeting and leaves negotiation mode. ErrBusy: another
// client is served.
func Dial(ctx context.Context, network, address string) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to monitor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, err := greet(conn)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	if err := c.negotiate(ctx); err != nil {
		_ = c.Close() // err says what went wrong
		return nil, err
	}
	return c, nil
}

func (c *Client) negotiate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, negotiationWait)
	defer cancel()
	if err := c.Do(ctx, "qmp_capabilities", nil, nil); err != nil {
		return fmt.Errorf("negotiate: %w", err)
	}
	return nil
}

func greet(conn net.Conn) (*Client, error) {
	var hello struct {
		QMP *struct{ Version struct{ QEMU Version } }
	}
	limited := &limitReader{r: conn, left: messageLimit}
	decoder := json.NewDecoder(bufio.NewReaderSize(limited, 64<<10))
	if err := conn.SetReadDeadline(time.Now().Add(GreetingWait)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if err := decoder.Decode(&hello); err != nil {
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("read greeting: %w: %w", ErrLost, err)
	}
	if hello.QMP == nil {
		return nil, errors.New("read greeting: this is no QMP monitor")
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("clear deadline: %w", err)
	}
	c := &Client{
		Version: hello.QMP.Version.QEMU, conn: conn,
		events: make(chan Event, eventsKept), read: make(chan struct{}), waiting: map[string]chan message{},
	}
	c.Events = c.events
	go c.receive(decoder, limited)
	return c, nil
}

// Do runs one command and decodes what it returns into result, which may be nil. The
// error is an *Error when QEMU refused, ErrLost when the connection ended.
func (c *Client) Do(ctx context.Context, command string, arguments, result any) error {
	ctx, cancel := context.WithTimeout(ctx, CommandWait)
	defer cancel()
	id, reply, err := c.expect()
	if err != nil {
		return err
	}
	defer c.forget(id)
	if err := c.send(ctx, id, command, arguments); err != nil {
		return err
	}
	select {
	case m, ok := <-reply:
		if !ok {
			return c.lostError()
		}
		return m.result(command, result)
	case <-ctx.Done():
		return fmt.Errorf("qmp %s: %w", command, ctx.Err())
	}
}

func (m message) result(command string, into any) error {
	if m.Error != nil {
		m.Error.Command = command
		return m.Error
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, into); err != nil {
		return fmt.Errorf("decode the reply to %s: %w", command, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, id, command string, arguments any) error {
	data, err := encode(id, command, arguments)
	if err != nil {
		return fmt.Errorf("encode %s: %w", command, err)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	if _, err := c.conn.Write(append(data, '\n')); err != nil {
		c.conn.Close() // half a command may be on the wire
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return nil
}

func encode(id, command string, arguments any) ([]byte, error) {
	packed, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	if string(packed) == "null" { // a nil map too; QEMU wants an object or nothing
		packed = nil
	}
	return json.Marshal(struct {
		Execute   string          `json:"execute"`
		Arguments json.RawMessage `json:"arguments,omitempty"`
		ID        string          `json:"id"`
	}{command, packed, id})
}

// expect makes the place where the reply to a new command will be put.
func (c *Client) expect() (string, chan message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return "", nil, c.lost
	}
	c.last++
	id := strconv.FormatUint(c.last, 10)
	reply := make(chan message, 1)
	c.waiting[id] = reply
	return id, reply, nil
}

func (c *Client) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *Client) lostError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// receive owns the reading side until the connection ends.
func (c *Client) receive(decoder *json.Decoder, limited *limitReader) {
	defer close(c.read)
	for {
		limited.left = messageLimit
		var m message
		if err := decoder.Decode(&m); err != nil {
			c.end(err)
			return
		}
		if m.Event.Name != "" {
			select {
			case c.events <- m.Event:
			default:
			}
			continue
		}
		c.deliver(m)
	}
}

func (c *Client) deliver(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply := c.waiting[m.ID]; reply != nil {
		delete(c.waiting, m.ID)
		reply <- m
	}
}

func (c *Client) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = fmt.Errorf("%w: %w", ErrLost, cause)
	for id, reply := range c.waiting {
		delete(c.waiting, id)
		close(reply)
	}
	close(c.events)
}

// Close ends the connection, which frees the monitor for the next client.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.read
	return err
}

// limitReader ends a stream that sends more than left bytes without a pause between
// messages.
type limitReader struct {
	r    io.Reader
	left int
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("the message is too large")
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}
