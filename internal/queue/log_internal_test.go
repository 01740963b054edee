package queue

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What asynq says at each turn of an outage is told once, each thirtieth time, and anew
// when it had stopped; what it says once is told at once.
func TestComplaintsAreNotLoud(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		l := newLogger(slog.New(slog.NewTextHandler(&text, nil)))
		lines := func() int {
			n := strings.Count(text.String(), "\n")
			text.Reset()
			return n
		}
		for i := range 60 {
			l.Error(fmt.Sprintf("Dequeue error: dial tcp 127.0.0.1:%d: refused", 40000+i))
			<-time.After(time.Second)
		}
		if n := lines(); n != 3 {
			t.Errorf("60 errors of one kind took %d lines, want the 1st, the 30th and the 60th", n)
		}
		l.Warn("Could not archive: x")
		l.Error("Dequeue error: refused")
		if n := lines(); n != 1 {
			t.Errorf("a new kind and one of an old took %d lines, want 1", n)
		}
		<-time.After(complaintRests)
		l.Error("Dequeue error: refused")
		if n := lines(); n != 1 {
			t.Errorf("an error that had stopped took %d lines, want 1", n)
		}
		for i := range 10 * complaintsKept {
			l.Error("task " + fmt.Sprint(i) + ": lost")
		}
		if n := lines(); n != 10*complaintsKept || len(l.kinds) > complaintsKept {
			t.Errorf("different errors took %d lines and %d kinds are kept, want all told and at most %d kept", n, len(l.kinds), complaintsKept)
		}
	})
}
