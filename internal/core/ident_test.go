package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

var (
	runID   = strings.Repeat("0a", 16)
	trigger = strings.Repeat("5b", 16)
)

func TestDispatchIDReadsBack(t *testing.T) {
	t.Parallel()
	for _, d := range []core.Dispatch{
		{Run: runID, Fence: core.Fence{Counter: 1, Random: "0123456789abcdef"}},
		{Run: runID, Step: 9999, Fence: core.Fence{Counter: 1 << 52, Random: "ffffffffffffffff"}},
		{Run: runID, Step: 3, Fence: core.Fence{Counter: 7}},
	} {
		got, err := core.ParseDispatch(d.ID())
		if err != nil || got != d {
			t.Errorf("%s: got %+v, %v; want %+v", d.ID(), got, err, d)
		}
		if want := runID + ":"; !strings.HasPrefix(d.Key(), want) || !strings.HasPrefix(d.ID(), d.Key()+":") {
			t.Errorf("id %q does not begin with its key %q", d.ID(), d.Key())
		}
	}
}

func TestParseDispatchRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", ":", "::", runID, runID + ":", runID + ":1", runID + ":1:", runID + ":1:2", runID + ":-1:2-aa",
		runID + ":x:2-aa", runID + ":1:x-aa", runID[1:] + ":1:2-aa", runID + "0:1:2-aa",
		runID + ":1:99999999999999999999-aa", runID + ":99999999999999999999:1-aa",
	} {
		if d, err := core.ParseDispatch(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, d)
		}
	}
}

func TestFireIDReadsBack(t *testing.T) {
	t.Parallel()
	for _, f := range []core.FireID{
		{Trigger: trigger, Revision: 1, Slot: time.UnixMilli(1_770_000_000_123).UTC()},
		{Trigger: trigger, Revision: 1 << 40, Slot: time.UnixMilli(0).UTC()},
		{Trigger: trigger, Revision: 2, Slot: time.UnixMilli(1_770_000_000_123).UTC(), Manual: "a.b.c"},
	} {
		got, err := core.ParseFireID(f.String())
		if err != nil || got != f {
			t.Errorf("%s: got %+v, %v; want %+v", f, got, err, f)
		}
		got, err = core.ParseEntry(trigger, f.Entry())
		if err != nil || got != f {
			t.Errorf("entry %s: got %+v, %v; want %+v", f.Entry(), got, err, f)
		}
		if f.IsZero() {
			t.Errorf("%s counts as no fire", f)
		}
	}
	if !(core.FireID{}).IsZero() {
		t.Error("the zero value must count as no fire")
	}
}

func TestParseFireIDRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "/", "/1.2", "t", "t/", "t/1", "t/1.", "t/.1", "t/x.1", "t/1.x", "t/1.99999999999999999999"} {
		if f, err := core.ParseFireID(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, f)
		}
	}
}

func TestFireIDIsToTheMillisecond(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 29, 2, 0, 0, 123_456_789, time.FixedZone("CEST", 7200))
	f := core.FireID{Trigger: trigger, Revision: 1, Slot: at}
	got, err := core.ParseFireID(f.String())
	if err != nil || !got.Slot.Equal(at.Truncate(time.Millisecond)) || got.Slot.Location() != time.UTC {
		t.Errorf("got %v, %v; want %v in UTC", got.Slot, err, at.Truncate(time.Millisecond).UTC())
	}
}

func FuzzParseDispatch(f *testing.F) {
	f.Add(runID + ":0:1-0123456789abcdef")
	f.Add(runID + ":+7:+1-")
	f.Add(runID + ":1:2-a-b:c")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := core.ParseDispatch(text)
		if err != nil {
			return
		}
		again, err := core.ParseDispatch(d.ID())
		if err != nil || again != d {
			t.Errorf("%q: read as %+v, then as %+v, %v", text, d, again, err)
		}
	})
}

func FuzzParseFireID(f *testing.F) {
	f.Add(trigger + "/1.1770000000000")
	f.Add(trigger + "/1.-5.key")
	f.Add("a/b/1.2.")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := core.ParseFireID(text)
		if err != nil {
			return
		}
		again, err := core.ParseFireID(id.String())
		if err != nil || again != id {
			t.Errorf("%q: read as %+v, then as %+v, %v", text, id, again, err)
		}
	})
}
