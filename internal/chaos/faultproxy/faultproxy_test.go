package faultproxy

import (
	"bufio"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back each line.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = c.Write([]byte(line))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func proxy(t *testing.T) *Proxy {
	t.Helper()
	p, err := Listen(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

type peer struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, p *Proxy) peer {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return peer{c, bufio.NewReader(c)}
}

// say sends a line and gives what came back within a moment.
func (c peer) say(line string, within time.Duration) (string, error) {
	if _, err := c.Write([]byte(line + "\n")); err != nil {
		return "", err
	}
	return c.hear(within)
}

func (c peer) hear(within time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	return c.in.ReadString('\n')
}

// mustBeReset makes a connection that ends, perhaps before it is made.
func mustBeReset(t *testing.T, p *Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return
	}
	defer c.Close()
	if got, err := (peer{c, bufio.NewReader(c)}).hear(long); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("new connection: heard %q and %v, want a reset", got, err)
	}
}

const (
	long  = 10 * time.Second
	short = 100 * time.Millisecond
)

func (c peer) mustSay(t *testing.T, line string) {
	t.Helper()
	if got, err := c.say(line, long); err != nil || got != line+"\n" {
		t.Fatalf("said %q, heard %q and %v", line, got, err)
	}
}

func TestHoleKeepsWhatIsOnItsWay(t *testing.T) {
	p := proxy(t)
	old := dial(t, p)
	old.mustSay(t, "before")
	p.Cut(Hole)
	young := dial(t, p)
	for name, c := range map[string]peer{"open connection": old, "new connection": young} {
		if got, err := c.say("within", short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: heard %q and %v through a hole, want nothing", name, got, err)
		}
	}
	p.Heal()
	for name, c := range map[string]peer{"open connection": old, "new connection": young} {
		if got, err := c.hear(long); err != nil || got != "within\n" {
			t.Errorf("%s: heard %q and %v after the hole, want what was said within", name, got, err)
		}
		c.mustSay(t, "after")
	}
}

func TestHoleHidesThatAClientLeft(t *testing.T) {
	p := proxy(t)
	c := dial(t, p)
	c.mustSay(t, "before")
	p.Cut(Hole)
	c.Close()
	p.Heal()
	dial(t, p).mustSay(t, "another")
}

func TestResetEndsConnections(t *testing.T) {
	p := proxy(t)
	old := dial(t, p)
	old.mustSay(t, "before")
	p.Cut(Reset)
	if got, err := old.hear(long); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("open connection: heard %q and %v, want a reset", got, err)
	}
	mustBeReset(t, p)
	p.Heal()
	dial(t, p).mustSay(t, "after")
}

func TestServerAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := l.Addr().String()
	l.Close()
	p, err := Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	mustBeReset(t, p)
}
