package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// A step of the start is repeated while Redis is away, and only then.
func TestUntilRedis(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	away := core.Wrap(core.Unavailable, broken, "try again shortly")
	wrong := core.Errorf(core.Invalid, "this Redis holds 8 partitions")
	for _, test := range []struct {
		name  string
		gives []error
		want  error
	}{
		{"there at once", []error{nil}, nil},
		{"away twice", []error{away, fmt.Errorf("send heartbeat: %w", context.DeadlineExceeded), nil}, nil},
		{"wrong", []error{wrong, nil}, wrong},
		{"away, then wrong", []error{away, wrong, nil}, wrong},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := &base{log: slog.New(slog.DiscardHandler)}
			err := b.untilRedis(t.Context(), func(context.Context) error {
				err := test.gives[0]
				test.gives = test.gives[1:]
				return err
			})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if got := cause(fmt.Errorf("announce: %w", away)); !errors.Is(got, broken) || got.Error() != broken.Error() {
		t.Errorf("the cause told is %q, want %q", got, broken)
	}
}

func TestUntilRedisEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	b := &base{log: slog.New(slog.DiscardHandler)}
	err := b.untilRedis(ctx, func(context.Context) error { return core.Errorf(core.Unavailable, "away") })
	if !errors.Is(err, context.DeadlineExceeded) || !core.Is(err, core.Unavailable) {
		t.Errorf("got %v, want the context's end and what was wrong", err)
	}
}

// Who starts a second process on one address is told what to do.
func TestPortAdvice(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, inUse := net.Listen("tcp", taken.Addr().String())
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"in use", inUse, "; stop what listens there, or choose another port with --api-listen (api.listen)"},
		{"no right", &net.OpError{Op: "listen", Err: syscall.EACCES}, "; ports below 1024 need a right of their own, so choose another one with --api-listen (api.listen)"},
		{"no such host", &net.DNSError{Err: "no such host"}, "; see --api-listen (api.listen)"},
	} {
		if got := portAdvice(test.err, "api.listen", "--api-listen"); got != test.want {
			t.Errorf("%s: advice on %v = %q, want %q", test.name, test.err, got, test.want)
		}
	}
}
