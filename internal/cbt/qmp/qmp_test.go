package qmp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

const greeting = `{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": ["oob"]}}`

const eventsKept = 256 // as the client says

// command is what the scripted monitor reads.
type command struct {
	Execute   string
	Arguments json.RawMessage
	ID        string
}

// monitor listens and plays one client's script: answer says what is written to a
// command; an empty string ends the connection.
func monitor(t *testing.T, hello string, answer func(command) string) (path string) {
	t.Helper()
	path = filepath.Join(cbttest.Dir(t), "qmp")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	running.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, hello)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var c command
			if json.Unmarshal(lines.Bytes(), &c) != nil {
				return
			}
			text := ok(c, "{}")
			if c.Execute != "qmp_capabilities" {
				text = answer(c)
			}
			if text == "" {
				return
			}
			io.WriteString(conn, text)
		}
	})
	return path
}

func ok(c command, value string) string {
	return fmt.Sprintf(`{"return": %s, "id": %q}`+"\n", value, c.ID)
}

func dial(t *testing.T, path string) *qmp.Client {
	t.Helper()
	client, err := qmp.Dial(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestConversation(t *testing.T) {
	t.Parallel()
	client := dial(t, monitor(t, greeting, func(c command) string {
		switch c.Execute {
		case "echo":
			return `{"event": "TICK", "data": {"n": 1}, "timestamp": {"seconds": 1, "microseconds": 2}}` + ok(c, string(c.Arguments))
		case "bare":
			return ok(c, fmt.Sprintf(`{"arguments": %v}`, c.Arguments != nil))
		}
		return fmt.Sprintf(`{"error": {"class": "CommandNotFound", "desc": "no %s"}, "id": %q}`, c.Execute, c.ID)
	}))
	if want := (qmp.Version{7, 2, 22}); client.Version != want {
		t.Errorf("got version %v, want %v", client.Version, want)
	}
	var got map[string]int
	if err := client.Do(t.Context(), "echo", map[string]any{"a": 5}, &got); err != nil || !cmp.Equal(got, map[string]int{"a": 5}) {
		t.Errorf("got %v, error %v", got, err)
	}
	if e := <-client.Events; e.Name != "TICK" || string(e.Data) != `{"n": 1}` {
		t.Errorf("got event %s %s", e.Name, e.Data)
	}
	var bare struct{ Arguments bool }
	if err := client.Do(t.Context(), "bare", map[string]any(nil), &bare); err != nil || bare.Arguments {
		t.Errorf("a nil map is sent as arguments (error %v)", err)
	}
	var refused *qmp.Error
	if err := client.Do(t.Context(), "nonsense", nil, nil); !errors.As(err, &refused) || refused.Class != "CommandNotFound" || refused.Command != "nonsense" {
		t.Errorf("got error %v", err)
	}
	if err := client.Do(t.Context(), "echo", map[string]any{"f": func() {}}, nil); err == nil {
		t.Error("arguments that are no JSON are sent")
	}
	var wrong []string
	if err := client.Do(t.Context(), "echo", map[string]any{}, &wrong); err == nil {
		t.Error("a reply of another form is decoded")
	}
	if err := client.Do(t.Context(), "echo", map[string]any{}, nil); err != nil {
		t.Errorf("after the errors: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	held := ""
	client := dial(t, monitor(t, greeting, func(c command) string {
		if held == "" { // answers come in the reverse order
			held = ok(c, string(c.Arguments))
			return " "
		}
		text := ok(c, string(c.Arguments)) + held
		held = ""
		return text
	}))
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			var got struct{ N int }
			if err := client.Do(t.Context(), "echo", map[string]any{"n": n}, &got); err != nil || got.N != n {
				t.Errorf("got %d, error %v; want %d", got.N, err, n)
			}
		})
	}
	all.Wait()
}

func TestLostConnection(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"closed": "", "no JSON": "}{", "of another type": `["x"]`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, monitor(t, greeting, func(command) string { return answer }))
			for range 2 {
				if err := client.Do(t.Context(), "stop", nil, nil); !errors.Is(err, qmp.ErrLost) {
					t.Errorf("got error %v, want ErrLost", err)
				}
			}
			if _, open := <-client.Events; open {
				t.Error("events go on")
			}
		})
	}
}

func TestCommandOutlivesItsContext(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	client := dial(t, monitor(t, greeting, func(c command) string {
		if c.Execute == "slow" {
			asked <- c.ID
			return " "
		}
		return ok(command{ID: <-asked}, `"late"`) + ok(c, `"right"`)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := client.Do(ctx, "slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want that of the context", err)
	}
	var got string
	if err := client.Do(t.Context(), "next", nil, &got); err != nil || got != "right" {
		t.Errorf("got %q, error %v: the late reply was taken for another command's", got, err)
	}
}

func TestEventsDoNotBlock(t *testing.T) {
	t.Parallel()
	client := dial(t, monitor(t, greeting, func(c command) string {
		return strings.Repeat(`{"event": "TICK"}`, 3*eventsKept) + ok(c, "{}")
	}))
	if err := client.Do(t.Context(), "burst", nil, nil); err != nil {
		t.Errorf("a reply behind events that nobody reads: %v", err)
	}
	if n := len(client.Events); n != eventsKept {
		t.Errorf("%d events are kept, want %d", n, eventsKept)
	}
}

func TestBadGreetings(t *testing.T) {
	t.Parallel()
	for name, hello := range map[string]string{"none": `{}`, "text": "SSH-2.0-OpenSSH", "cut": greeting[:20]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := qmp.Dial(t.Context(), "unix", monitor(t, hello, func(command) string { return "" }))
			if err == nil {
				client.Close()
				t.Error("it is taken for a monitor")
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := qmp.Dial(ctx, "unix", monitor(t, "", nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want that of the context", err)
	}
}

func TestRealMonitor(t *testing.T) {
	t.Parallel()
	m := cbttest.Start(t, cbttest.Shape{})
	first := dial(t, m.Target.QMP)
	if first.Version.Major < 6 {
		t.Errorf("got version %v", first.Version)
	}
	var status struct{ Status string }
	if err := first.Do(t.Context(), "query-status", nil, &status); err != nil || status.Status == "" {
		t.Errorf("got status %q, error %v", status.Status, err)
	}
	if _, err := qmp.Dial(t.Context(), "unix", m.Target.QMP); !errors.Is(err, qmp.ErrBusy) {
		t.Errorf("a second client: got error %v, want ErrBusy", err)
	}
	first.Close()
	second := dial(t, m.Target.QMP)
	m.Kill()
	if err := second.Do(t.Context(), "query-status", nil, nil); !errors.Is(err, qmp.ErrLost) {
		t.Errorf("after kill -9: got error %v, want ErrLost", err)
	}
}
