package telemetry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/telemetry"
)

// An outage of a minute at a turn a second takes four lines, however often it comes.
func TestOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		o := telemetry.Outage{Log: log, Away: "waits", Back: "goes on"}
		want := []string{
			"level=WARN msg=waits role=r err=refused",
			"level=WARN msg=waits role=r for=29s times=30 err=refused",
			"level=WARN msg=waits role=r for=59s times=60 err=refused",
			`level=INFO msg="goes on" role=r after=1m1s`,
		}
		for range 2 {
			text.Reset()
			o.Note(t.Context(), nil, "role", "r")
			for range 61 {
				o.Note(t.Context(), errors.New("refused"), "role", "r")
				<-time.After(time.Second)
			}
			o.Note(t.Context(), nil, "role", "r")
			o.Note(t.Context(), nil, "role", "r")
			if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(text.String()), "\n")); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		}
	})
}
