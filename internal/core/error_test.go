package core_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/core"
)

// wantField checks that err is Invalid and names a field, or nil for "".
func wantField(t *testing.T, what string, err error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("%s: got error %v, want none", what, err)
		}
		return
	}
	var known *core.Error
	if !errors.As(err, &known) || known.Kind != core.Invalid || known.Field != field {
		t.Errorf("%s: got error %v, want an invalid %s", what, err, field)
	}
}

func TestKindOfErrors(t *testing.T) {
	t.Parallel()
	stale := core.Errorf(core.Stale, "read it again")
	for _, row := range []struct {
		name string
		err  error
		want core.Kind
	}{
		{"plain", io.EOF, core.Internal},
		{"own", stale, core.Stale},
		{"wrapped by fmt", fmt.Errorf("write: %w", stale), core.Stale},
		{"joined", errors.Join(io.EOF, stale), core.Stale},
		{"with a cause", core.Wrap(core.Unavailable, io.EOF, "away"), core.Unavailable},
		{"the outer kind wins", core.Wrap(core.Conflict, stale, "others came first"), core.Conflict},
		{"missing", core.Missing("job", "x"), core.NotFound},
		{"field", core.InvalidField("name", "empty"), core.Invalid},
	} {
		if got := core.KindOf(row.err); got != row.want {
			t.Errorf("%s: got kind %q, want %q", row.name, got, row.want)
		}
		if !core.Is(row.err, row.want) {
			t.Errorf("%s: Is says no to %q", row.name, row.want)
		}
	}
	if core.Is(nil, core.Internal) {
		t.Error("no error has no kind")
	}
}

func TestTextHidesWhatIsOurs(t *testing.T) {
	t.Parallel()
	const secret = "dial tcp 10.0.0.7:6379"
	cause := errors.New(secret)
	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", fmt.Errorf("read run: %w", cause), "an internal error happened; the server's log says more"},
		{"internal kind", core.Wrap(core.Internal, cause, "broken row of %s", secret), "an internal error happened; the server's log says more"},
		{"cause stays inside", core.Wrap(core.Unavailable, cause, "try again"), "try again"},
		{"text is shown", fmt.Errorf("verb: %w", core.Errorf(core.Conflict, "100%% full")), "100% full"},
	} {
		got := core.Text(row.err)
		if got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
		if strings.Contains(got, secret) {
			t.Errorf("%s: text shows the cause", row.name)
		}
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	t.Parallel()
	err := core.Wrap(core.Unavailable, io.ErrUnexpectedEOF, "the store is away")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause cannot be matched")
	}
	if got, want := err.Error(), "the store is away: unexpected EOF"; got != want {
		t.Errorf("for logs: got %q, want %q", got, want)
	}
}
