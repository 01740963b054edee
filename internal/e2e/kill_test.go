package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/testenv"
)

// elsewhere is the promise: what a killed process held runs elsewhere within it.
const elsewhere = 10 * time.Second

func TestKilledBetweenStoreAndSend(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noop.Spec)
	h.roles()
	h.worker("survivor", 4, noop)
	g := h.group("noop", 5)
	at := h.killed(h.child(orders{Role: "starter", Die: "send", Group: g}))

	page, err := h.eng.Runs(h.ctx, core.RunFilter{Target: g})
	if err != nil || len(page.Runs) != 1 {
		t.Fatalf("got %d runs, %v; want the one that was stored", len(page.Runs), err)
	}
	r := h.await(page.Runs[0].ID, elsewhere)
	wantOnce(t, h, r, 5, at)
}

func TestKilledWorker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		point    string
		attempts int // of the step whose worker was killed
	}{
		{"begin", 1},   // between dequeue and begin: nothing had begun
		{"begun", 2},   // begun, the reply not seen
		{"execute", 2}, // in the executor
		{"done", 1},    // finished, but asynq was not told
	} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noop.Spec)
			h.roles()
			g := h.group("noop", 1)
			died := h.child(orders{Role: "worker", Die: c.point, Host: "victim"})
			testenv.Eventually(t, 10*time.Second, func() error {
				f, err := h.eng.Fleet(h.ctx)
				if err == nil && len(f.Workers) == 0 {
					err = fmt.Errorf("the worker has not announced itself")
				}
				return err
			})
			r, err := h.eng.RunGroup(h.ctx, g, "", core.Overlap{})
			if err != nil {
				t.Fatal(err)
			}
			at := h.killed(died)
			survivor, _ := h.worker("survivor", 4, noop)
			r = h.await(r.ID, elsewhere)
			wantOnce(t, h, r, 1, at)
			steps, err := h.eng.Steps(h.ctx, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			// The queue brings the message of the dead worker again when its lease has
			// lapsed; what is finished must not be executed by it.
			again := core.Dispatch{Run: r.ID, Step: 0, Fence: steps[0].Fence}
			if err := survivor.Handle(h.ctx, again); err != nil {
				t.Errorf("the message brought again: %v", err)
			}
			if steps, err = h.eng.Steps(h.ctx, r.ID); err != nil {
				t.Fatal(err)
			}
			got := steps[0].Attempts
			if len(got) != c.attempts {
				t.Fatalf("got %d attempts, want %d: %+v", len(got), c.attempts, got)
			}
			if c.attempts == 2 && (got[0].State != core.AttemptLost || steps[0].Failures != 0) {
				t.Errorf("first attempt is %s with %d failures counted; want lost with none", got[0].State, steps[0].Failures)
			}
			h.quiet(r)
		})
	}
}

func TestKilledBetweenPublishAndAdvance(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noop.Spec)
	h.roles()
	h.worker("one", 4, noop)
	tr := h.everySecond(h.group("noop", 2), 3)
	at := h.killed(h.child(orders{Role: "trigger", Die: "advance"}))
	h.trigger()
	h.wantLedger(tr, 3, at)
}

func TestKilledBetweenAdmitAndDecision(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noop.Spec)
	h.worker("one", 4, noop)
	h.trigger()
	died := h.child(orders{Role: "roles", Die: "decide"})
	tr := h.everySecond(h.group("noop", 2), 3)
	at := h.killed(died)
	h.roles()
	h.wantLedger(tr, 3, at)
}

// everySecond makes a trigger with n slots, a second apart, for a group.
func (h *house) everySecond(group string, n int) core.Trigger {
	h.t.Helper()
	now, err := h.eng.Now(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	tr, err := h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: core.Meta{Name: "t"}, Enabled: true,
		Schedule: schedule.Spec{Kind: schedule.Simple, Interval: time.Second, Repeat: n, Start: now.Add(time.Second).Truncate(time.Second)},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.eng.Bind(h.ctx, tr.UUID, core.Target{Kind: core.GroupTarget, UUID: group}, false); err != nil {
		h.t.Fatal(err)
	}
	return tr
}

// wantLedger waits until each of n slots is decided and its one run has ended,
// and fails for any slot or run that is missing or there twice.
func (h *house) wantLedger(tr core.Trigger, n int, killed time.Time) {
	h.t.Helper()
	var entries []core.LedgerEntry
	testenv.Eventually(h.t, elsewhere+time.Duration(n)*time.Second, func() error {
		var err error
		if entries, err = h.eng.Ledger(h.ctx, tr.UUID, time.Time{}, time.Time{}, 0, 100); err != nil {
			return err
		}
		decided := 0
		for _, e := range entries {
			if e.Decision != "" {
				decided++
			}
		}
		if decided < n {
			return fmt.Errorf("%d of %d slots are decided", decided, n)
		}
		return nil
	})
	h.t.Logf("decided %s after the kill", time.Since(killed).Round(10*time.Millisecond))
	runs := map[string]bool{}
	slots := map[time.Time]bool{}
	for _, e := range entries {
		if slots[e.From] || e.Count != 1 {
			h.t.Errorf("slot %s is covered twice", e.From)
		}
		slots[e.From] = true
		if (e.Decision != core.Fired && e.Decision != core.Late) || len(e.Runs) != 1 || runs[e.Runs[0]] {
			h.t.Errorf("slot %s is %s with runs %v; want fired with a run of its own", e.From, e.Decision, e.Runs)
			continue
		}
		runs[e.Runs[0]] = true
		if r := h.await(e.Runs[0], elsewhere); r.State != core.RunSucceeded {
			h.t.Errorf("run of slot %s ended as %s", e.From, r.State)
		}
	}
	page, err := h.eng.Runs(h.ctx, core.RunFilter{Trigger: tr.UUID})
	if err != nil {
		h.t.Fatal(err)
	}
	if len(slots) != n || len(page.Runs) != n {
		h.t.Errorf("got %d slots and %d runs, want %d of each", len(slots), len(page.Runs), n)
	}
}

func wantOnce(t *testing.T, h *house, r core.Run, steps int, killed time.Time) {
	t.Helper()
	t.Logf("ended %s after the kill", r.Ended.Sub(killed).Round(10*time.Millisecond))
	if r.State != core.RunSucceeded || r.Counts.Succeeded != steps {
		t.Fatalf("run ended as %s (%s), %+v; want all %d steps to succeed", r.State, r.Reason, r.Counts, steps)
	}
}

// quiet waits until nothing of a run is left in the sent and live sets.
func (h *house) quiet(r core.Run) {
	h.t.Helper()
	testenv.Eventually(h.t, elsewhere, func() error {
		for n := range h.store.Partitions() {
			sent, _, err := h.store.SentBefore(h.ctx, n, time.Now().Add(time.Hour), 0)
			if err != nil {
				return err
			}
			live, err := h.store.Live(h.ctx, n)
			if err != nil {
				return err
			}
			if len(sent)+len(live) > 0 {
				return fmt.Errorf("run %s left %d dispatches and %d attempts", r.ID, len(sent), len(live))
			}
		}
		return nil
	})
}
