package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/executortest"
)

func TestConformance(t *testing.T) {
	b := newRaw(t)
	parameters := func(o cbt.Order) map[string]string {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{Parameter: string(text)}
	}
	stranger := b.order(cbt.OpProbe)
	stranger.Machine = "x"
	executortest.Run(t, executortest.Harness{
		Type: b.Type(), Success: parameters(b.order(cbt.OpProbe)), Failure: parameters(stranger),
		Blocking: func(t testing.TB) (map[string]string, <-chan struct{}) {
			release, err := b.hold(t.Context(), b.machines[machine]) // an order waits for the other
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(release)
			return parameters(b.openOrder(1, 0)), nil
		},
	})
}

func TestSessionsAndWhatChangedBetweenThem(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.put(0, 3, 1)
		b.put(1, 5, 1)
		full := b.open(1, 0)
		b.wantChain(1)
		if read := b.told; b.record.Driver == cbt.DriverScan && (read[0] < 2*block || read[0] != read[1]) {
			t.Errorf("after a scan of the disks the progress is %v bytes", read)
		}
		open := b.record.Open
		if open == nil || open.Seq != 1 || len(open.Exports) != 2 || open.Exports[0].Mode != cbt.ModeFull || open.Exports[1].Size != size {
			t.Fatalf("got session %+v", open)
		}
		if len(b.record.Volumes) != 2 || b.record.Volumes[1].UUID != "volume1" || b.record.Volumes[1].Size != size || b.record.Block != block {
			t.Errorf("got record %+v", b.record)
		}
		if full[1].Changed < block || full[1].Changed > size/2 || len(unpack(t, full[1].Bitmap)) == 0 {
			t.Errorf("got detail %+v, want what is allocated", full[1])
		}
		if len(b.changed(0, cbt.Span{})) == 0 {
			t.Error("nothing is allocated")
		}
		b.close()
		if b.record.Open != nil {
			t.Errorf("after close the session is %+v", b.record.Open)
		}
		b.put(0, 7, 2)
		b.put(0, 8, 2)
		b.put(1, 9, 2)
		details := b.open(2, 1)
		b.wantChain(1, 2)
		if e := b.record.Open.Exports[0]; e.Mode != cbt.ModeIncremental || e.Context == "" {
			t.Errorf("got export %+v", e)
		}
		b.want(blocks(unpack(t, details[0].Bitmap)), 7, 8)
		b.want(blocks(unpack(t, details[1].Bitmap)), 9)
		if details[0].Changed != 2*block || details[1].Changed != block {
			t.Errorf("got details %+v", details)
		}
		b.want(b.changed(0, cbt.Span{From: 1, To: 2}), 7, 8)
		b.close()
		b.put(1, 2, 3)
		b.want(b.changed(1, cbt.Span{From: 1}), 2, 9)
		b.open(3, 2)
		b.close()

		o := b.order(cbt.OpForget)
		o.Seq = 2
		b.do(o, nil)
		b.wantChain(1, 3)
		b.want(b.changed(1, cbt.Span{From: 1, To: 3}), 2, 9)
		b.do(b.order(cbt.OpDrop), nil)
		if diff := cmp.Diff(cbt.Record{}, b.record); diff != "" {
			t.Errorf("after drop the record is (-want +got):\n%s", diff)
		}
		if tasks := b.swept(t, func(string) bool { return false }); tasks {
			t.Error("the sweeper found something after drop")
		}
	})
}

// Each order comes twice, the second time to another process, as after a worker's death.
func TestEachOrderTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		twice := func(o cbt.Order) {
			t.Helper()
			before := b.record
			b.do(o, nil)
			first := b.record
			b.record = before
			_ = b.Host.Close()
			b.start()
			b.do(o, nil)
			// A checkpoint that was found is as of when it was found.
			if diff := cmp.Diff(first, b.record, cmpopts.EquateApproxTime(time.Minute)); diff != "" {
				t.Errorf("%s again (-first +again):\n%s", o.Op, diff)
			}
		}
		twice(b.openOrder(1, 0))
		twice(b.order(cbt.OpProbe))
		twice(b.order(cbt.OpClose))
		b.put(0, 7, 2)
		twice(b.openOrder(2, 1))
		b.want(b.changed(0, cbt.Span{From: 1, To: 2}), 7)
		twice(b.order(cbt.OpClose))
		o := b.order(cbt.OpForget)
		o.Seq = 1
		twice(o)
		b.wantChain(2)
		twice(b.order(cbt.OpDrop))
		twice(b.order(cbt.OpClose)) // there is nothing
	})
}

// A task that failed may have left a session in its record.
func TestOpenEndsTheSessionBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.open(1, 0)
		old := b.record.Open.Exports[0]
		b.open(2, 1)
		b.wantChain(1, 2)
		if client, err := nbd.Dial(t.Context(), old.Network, old.Address, old.Name, nbd.Options{}); err == nil {
			_ = client.Close()
			t.Error("the session before can still be read")
		}
	})
}

func TestBrokenChains(t *testing.T) {
	for _, c := range []struct {
		onBroken  string
		from      int
		wantError bool
	}{
		{cbt.OnBrokenFull, 2, false},
		{cbt.OnBrokenRescan, 2, false}, // there are no digests to compare with
		{cbt.OnBrokenFail, 2, true},
		{cbt.OnBrokenFail, 0, false}, // a full copy relies on nothing
	} {
		t.Run(fmt.Sprintf("%s since %d", c.onBroken, c.from), func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.open(1, 0)
				b.close()
				b.open(2, 1)
				b.close()
				b.put(0, 7, 1)
				b.lose()
				var e cbt.Estimate
				b.do(b.order(cbt.OpProbe), &e)
				if !strings.Contains(e.Broken, "absent") {
					t.Errorf("got estimate %+v of a broken chain", e)
				}
				o := b.openOrder(3, c.from)
				o.OnBroken = c.onBroken
				if c.wantError {
					before := b.record
					b.fail(o, true, "is absent")
					if diff := cmp.Diff(before, b.record); diff != "" {
						t.Errorf("the record changed (-before +after):\n%s", diff)
					}
					return
				}
				b.do(o, nil)
				b.wantChain(3)
				if b.record.Open.From != 0 || b.record.Open.Exports[0].Mode != cbt.ModeFull {
					t.Errorf("got session %+v, want a full one", b.record.Open)
				}
				if !strings.Contains(b.record.Broken, "is absent") || b.record.BrokenAt.IsZero() {
					t.Errorf("the record says %q at %v", b.record.Broken, b.record.BrokenAt)
				}
				b.close()
				b.put(1, 4, 1)
				b.open(4, 3)
				b.want(b.changed(1, cbt.Span{From: 3, To: 4}), 4)
				b.want(b.changed(0, cbt.Span{From: 3, To: 4}))
			})
		})
	}
}

// Another machine of the task may have checkpoints that this one lacks.
func TestSinceACheckpointThatIsNotRecorded(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.open(2, 0)
		b.close()
		o := b.openOrder(3, 1)
		o.OnBroken = cbt.OnBrokenFail
		b.fail(o, true, "checkpoint 1 is unknown")
		b.wantChain(2)
		b.open(3, 1)
		b.wantChain(2, 3) // the chain is whole: it goes on
		if b.record.Open.From != 0 || !strings.Contains(b.record.Broken, "unknown") {
			t.Errorf("got record %+v, want a full session and why", b.record)
		}
	})
}

// stopping ends a context at the first line of the attempt's log that has a text.
type stopping struct {
	text string
	stop func()
}

func (s stopping) Write(p []byte) (int, error) {
	if strings.Contains(string(p), s.text) {
		s.stop()
	}
	return len(p), nil
}

func TestStoppedWhileItOpens(t *testing.T) {
	for _, cause := range []error{executor.ErrCanceled, executor.ErrTimedOut, executor.ErrReleased} {
		t.Run(cause.Error(), func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.open(1, 0)
				b.close()
				b.put(0, 7, 1)
				ctx, cancel := context.WithCancelCause(t.Context())
				text, err := json.Marshal(b.openOrder(2, 1))
				if err != nil {
					t.Fatal(err)
				}
				_, err = b.Execute(ctx, executor.Attempt{Parameters: map[string]string{Parameter: string(text)}, Log: stopping{"open checkpoint 2", func() { cancel(cause) }}})
				if !errors.Is(err, cause) || executor.IsPermanent(err) {
					t.Fatalf("got error %v, want %v", err, cause)
				}
				b.put(0, 9, 1)
				b.open(2, 1)
				b.want(b.changed(0, cbt.Span{From: 1, To: 2}), 7, 9)
			})
		})
	}
}

// What an attempt made that nobody recorded is gone when the task is disabled.
func TestCloseCleansUp(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.open(1, 0)
		b.close()
		b.put(0, 7, 1)
		record := b.record
		b.open(2, 1)
		e := b.record.Open.Exports[0]
		b.record = record // its worker died
		b.close()
		if client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{}); err == nil {
			_ = client.Close()
			t.Error("the session can still be read")
		}
		b.put(0, 9, 1)
		b.open(3, 1)
		b.wantChain(1, 3)
		b.want(b.changed(0, cbt.Span{From: 1, To: 3}), 7, 9)
	})
}

func TestAReaderKeepsTheSession(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.open(1, 0)
		e := b.record.Open.Exports[0]
		client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		o := b.order(cbt.OpForget)
		o.Seq = 1
		b.fail(o, true, "in use")
		b.fail(b.order(cbt.OpClose), true, "in use")
		if b.record.Open == nil {
			t.Fatal("the record lost the session")
		}
		o = b.order(cbt.OpClose)
		o.Force = true
		b.do(o, nil)
		if err := client.Read(t.Context(), make([]byte, 512), 0); err == nil {
			t.Error("the reader goes on")
		}
	})
}

func TestPages(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.open(1, 0)
		b.close()
		for at := uint64(0); at < 40; at += 2 {
			b.put(1, at, 1)
		}
		b.put(0, 1, 1)
		b.open(2, 1)
		q := cbt.PageOrder{Volume: "volume1", Span: cbt.Span{From: 1, To: 2}}
		whole := b.page(q)
		if len(whole.Extents) != 20 || whole.Next != 0 || whole.Size != size || whole.Block != block {
			t.Fatalf("got page %+v", whole)
		}
		for _, most := range []int{1, 7, 10, 19, 20, 21} {
			var all []cbt.PageExtent
			q := q
			q.Most = most
			for n := 0; ; n++ {
				p := b.page(q)
				if len(p.Extents) > most || n > 20 {
					t.Fatalf("page %d has %d extents, want %d at most", n, len(p.Extents), most)
				}
				all = append(all, p.Extents...)
				if q.Offset = p.Next; q.Offset == 0 {
					break
				}
			}
			if diff := cmp.Diff(whole.Extents, all); diff != "" {
				t.Errorf("%d at a time (-want +got):\n%s", most, diff)
			}
		}
		q.Offset = 2*block + 512 // within an extent
		if p := b.page(q); p.Extents[0] != (cbt.PageExtent{Offset: q.Offset, Length: block - 512}) {
			t.Errorf("within an extent got %+v", p.Extents[0])
		}
		q.Offset = size
		if p := b.page(q); len(p.Extents) != 0 || p.Next != 0 {
			t.Errorf("behind the end got %+v", p)
		}
		o := b.order(cbt.OpChanges)
		o.Changes = cbt.PageOrder{Volume: "volume9", Span: q.Span}
		b.fail(o, true, "no volume volume9")
		o.Changes = cbt.PageOrder{Volume: "volume0", Span: cbt.Span{From: 7}}
		b.fail(o, true, "checkpoint 7 is unknown")
	})
}

// The configuration may list disks in another order, or other disks.
func TestOtherDisks(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.put(0, 3, 9) // the disks differ
		b.open(1, 0)
		b.close()
		b.put(0, 7, 1)
		disks := b.set.Machines[0].Disks
		b.set.Machines[0].Disks = []cbt.Disk{disks[1], disks[0]}
		b.start()
		b.open(2, 1)
		b.want(b.changed(0, cbt.Span{From: 1, To: 2}), 7)
		b.want(b.changed(1, cbt.Span{From: 1, To: 2}))
		b.close()
		b.set.Machines[0].Disks = disks[:1]
		b.start()
		o := b.order(cbt.OpChanges)
		o.Changes = cbt.PageOrder{Volume: "volume0", Span: cbt.Span{From: 1}}
		b.fail(o, true, "without volume volume1")
		b.open(3, 2)
		b.wantChain(3)
		if b.record.Open.From != 0 || len(b.record.Volumes) != 1 {
			t.Errorf("got record %+v, want a full session of one disk", b.record)
		}
	})
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	b := newRaw(t)
	o := b.order(cbt.OpOpen)
	o.Machine = "x"
	b.fail(o, true, "machine x is none of this worker's")
	o.Op = cbt.OpDrop
	b.fail(o, true, "machine x is none of this worker's")
	o.Force = true
	b.do(o, nil)
	b.fail(b.order("paint"), true, `order "paint"`)
	o = b.openOrder(1, 0)
	o.Session.Token = "guess"
	b.fail(o, true, "token")
	o = b.openOrder(1, 0)
	o.Driver = cbt.DriverQEMU
	b.fail(o, true, "needs qmp")
	o.Driver = "vmware"
	b.fail(o, true, `driver "vmware"`)
	o.Task = "x"
	b.fail(o, true, "not a uuid")
	if _, err := b.Execute(t.Context(), executor.Attempt{Parameters: map[string]string{Parameter: "{"}, Log: &b.log}); !executor.IsPermanent(err) {
		t.Errorf("got error %v of an order that is no JSON, want a permanent one", err)
	}
}

func TestAnotherOrderHasTheMachine(t *testing.T) {
	t.Parallel()
	b := newRaw(t)
	release, err := b.hold(t.Context(), b.machines[machine])
	if err != nil {
		t.Fatal(err)
	}
	b.fail(b.openOrder(1, 0), false, "is locked")
	release()
	b.open(1, 0)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	b := newRaw(t)
	outside := cbttest.Dir(t)
	for _, c := range []struct {
		name   string
		change func(*Settings)
		want   string
	}{
		{"directory cannot be made", func(s *Settings) { s.Dir = s.Machines[0].Disks[0].Path + "/x" }, "worker.cbt.dir"},
		{"no disks", func(s *Settings) { s.Machines[0].Disks = nil }, machine + ": the machine has no disks"},
		{"image outside", func(s *Settings) { s.Machines[0].Disks[0].Path = outside }, "below none of the configured roots"},
		{"monitor outside", func(s *Settings) { s.Machines[0].QMP = filepath.Join(outside, "qmp") }, "below none of the configured roots"},
		{"TCP without certificates", func(s *Settings) { s.Machines[0].Listen = cbt.Listen{Host: "127.0.0.1", Port: 10809} }, "TLS certificates"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := b.set
			s.Machines = []Machine{s.Machines[0]}
			s.Machines[0].Disks = append([]cbt.Disk(nil), s.Machines[0].Disks...)
			c.change(&s)
			if _, err := New(s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
	if diff := cmp.Diff([]string{machine, "volume0", "volume1"}, b.Resources()); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// swept sweeps once, and says whether something was removed.
func (b *bench) swept(t *testing.T, live func(string) bool) bool {
	t.Helper()
	var seen []string
	b.SweepOnce(t.Context(), func(_ context.Context, name string) bool {
		seen = append(seen, name)
		return live(name)
	})
	return len(seen) > 0
}

func TestSweeper(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.open(1, 0)
		b.close()
		b.put(0, 7, 1)
		b.swept(t, func(name string) bool { return name == task[:12] })
		b.want(b.changed(0, cbt.Span{From: 1}), 7)
		if !b.swept(t, func(string) bool { return false }) {
			t.Error("the sweeper saw nothing of a dead task")
		}
		o := b.order(cbt.OpChanges)
		o.Changes = cbt.PageOrder{Volume: "volume0", Span: cbt.Span{From: 1}}
		b.fail(o, true, "is absent")
	})
}
