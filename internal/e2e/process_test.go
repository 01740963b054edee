package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

// brief works for a random moment, longer than a second now and then, so that
// runs of a trigger that fires each second overlap.
var brief = executor.Type{
	Spec: executor.Spec{Type: "brief"},
	Executor: executor.Func(func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
		work := time.Duration(rand.IntN(100)) * time.Millisecond
		if rand.IntN(20) == 0 {
			work = 1500 * time.Millisecond
		}
		select {
		case <-time.After(work):
			return executor.Result{Output: a.Job}, nil
		case <-ctx.Done():
			return executor.Result{}, context.Cause(ctx)
		}
	}),
}

// playProcess plays a whole process of the product.
func playProcess(ctx context.Context, o orders) error {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if os.Getenv("TAKT_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("pid", os.Getpid())
	}
	api, wk, tr := config.Default[config.API](), config.Default[config.Worker](), config.Default[config.Trigger]()
	for _, shared := range []*config.Shared{&api.Shared, &wk.Shared, &tr.Shared} {
		shared.Redis.URL, shared.NATS.URLs = o.Redis, []string{o.NATS}
	}
	api.Listen, api.Admin.Password = cmp.Or(o.Listen, "127.0.0.1:0"), adminPassword
	wk.Host, wk.Slots, wk.CBT = o.Host, 16, o.CBT
	switch o.Role {
	case "api-process":
		return process.API(ctx, api, log, process.APIOptions{})
	case "worker-process":
		return process.Worker(ctx, wk, []executor.Type{brief, marking(o.Witness, o.Host, o.Work)}, log)
	case "trigger-process":
		return process.Trigger(ctx, tr, log)
	}
	return fmt.Errorf("unknown process %q", o.Role)
}

// soak is how long the triggers of the soak tests are enabled.
func soak() time.Duration {
	if os.Getenv("CI") == "" {
		return 15 * time.Second
	}
	return 60 * time.Second
}

// Two of each process; a native trigger and one under ZStack's rules fire groups
// of 20 jobs each second. In the second test one of each process is killed in the
// middle and started again.
func TestTwoOfEachProcess(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brief.Spec)
	for _, host := range []string{"one", "two"} {
		h.child(orders{Role: "api-process"})
		h.child(orders{Role: "worker-process", Host: host})
		h.child(orders{Role: "trigger-process"})
	}
	h.fireFor(soak(), func(time.Duration) {})
}

func TestTwoOfEachProcessWithKills(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brief.Spec)
	var victims []*victim
	for _, host := range []string{"one", "two"} {
		for _, role := range []string{"api-process", "worker-process", "trigger-process"} {
			p := h.process(orders{Role: role, Host: host})
			if host == "one" {
				victims = append(victims, p)
			}
		}
	}
	h.fireFor(soak(), func(d time.Duration) {
		for _, p := range victims {
			h.pause(d / 5)
			p.kill()
			h.lostElsewhere(p)
			p.restart()
		}
	})
}

// fireFor fires two groups each second for d, has disturb do its worst meanwhile,
// and compares runs, ledger and history.
func (h *house) fireFor(d time.Duration, disturb func(time.Duration)) {
	h.awaitWorkers(2)
	native, zstack := h.group("brief", 20), h.group("brief", 20)
	a := h.cronEachSecond(native, core.Overlap{Policy: core.OverlapAllow})
	b := h.cronEachSecond(zstack, core.Overlap{Policy: core.OverlapSkipSteps})
	enabledA, enabledB := h.setEnabled(a, true), h.setEnabled(b, true)

	began := time.Now()
	disturb(d)
	h.pause(d - time.Since(began))

	disabledA, disabledB := h.setEnabled(a, false), h.setEnabled(b, false)
	h.compare(a, 20, enabledA, disabledA, false)
	h.compare(b, 20, enabledB, disabledB, true)
}

func (h *house) cronEachSecond(group string, o core.Overlap) core.Trigger {
	h.t.Helper()
	tr, err := h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: core.Meta{Name: string(o.Policy)}, Overlap: o,
		Schedule: schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Quartz, Expression: "* * * * * ?"},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.eng.Bind(h.ctx, tr.UUID, core.Target{Kind: core.GroupTarget, UUID: group}, false); err != nil {
		h.t.Fatal(err)
	}
	return tr
}

// setEnabled enables or disables a trigger and gives the instant of the change.
func (h *house) setEnabled(tr core.Trigger, on bool) time.Time {
	h.t.Helper()
	got, err := h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Enabled = on; return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return got.Updated
}

// compare checks that each second between enable and disable has exactly one
// ledger entry and one run with all its step histories.
func (h *house) compare(tr core.Trigger, jobs int, enabled, disabled time.Time, skips bool) {
	h.t.Helper()
	entries := h.settledLedger(tr)
	runs := h.allRuns(tr)
	want := 0
	for s := enabled.Truncate(time.Second).Add(time.Second); !s.After(disabled); s = s.Add(time.Second) {
		want++
		e, ok := entries[s]
		if !ok {
			h.t.Errorf("%s: slot %s is missing from the ledger", tr.Name, s)
			continue
		}
		if (e.Decision != core.Fired && e.Decision != core.Late) || len(e.Runs) != 1 || e.Count != 1 {
			h.t.Errorf("%s: slot %s is %s (%s) with runs %v", tr.Name, s, e.Decision, e.Reason, e.Runs)
			continue
		}
		if _, ok := runs[e.Runs[0]]; !ok {
			h.t.Errorf("%s: run %s of slot %s is not listed", tr.Name, e.Runs[0], s)
		}
	}
	if len(entries) != want || len(runs) != want {
		h.t.Errorf("%s: %d ledger entries and %d runs; want %d of each", tr.Name, len(entries), len(runs), want)
	}
	skipped := 0
	for id := range runs {
		skipped += h.compareSteps(tr, h.await(id, 20*time.Second), jobs, skips)
	}
	h.t.Logf("%s: %d slots, %d runs, %d steps, %d of them skipped", tr.Name, want, len(runs), len(runs)*jobs, skipped)
	if skips && skipped == 0 {
		h.t.Errorf("%s: no step was skipped; some should overlap", tr.Name)
	}
}

// compareSteps checks the histories of one run and gives the number of skipped steps.
func (h *house) compareSteps(tr core.Trigger, r core.Run, jobs int, skips bool) (skipped int) {
	h.t.Helper()
	steps, err := h.eng.Steps(h.ctx, r.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range steps {
		switch {
		case seen[s.Job]:
			h.t.Errorf("%s: run %s has job %s twice", tr.Name, r.ID, s.Job)
		case skips && s.State == core.StepSkipped:
			skipped++
			if s.Reason != core.SkipText || len(s.Attempts) != 0 {
				h.t.Errorf("%s: skipped step says %q after %d attempts", tr.Name, s.Reason, len(s.Attempts))
			}
		case s.State != core.StepSucceeded:
			h.t.Errorf("%s: step %d of run %s is %s (%s)", tr.Name, s.Index, r.ID, s.State, s.Reason)
		default:
			h.compareAttempts(tr, r, s)
		}
		seen[s.Job] = true
	}
	if len(seen) != jobs {
		h.t.Errorf("%s: run %s has %d step histories, want %d", tr.Name, r.ID, len(seen), jobs)
	}
	return skipped
}

// compareAttempts checks that a step succeeded once, after at most lost attempts
// that were followed up in time.
func (h *house) compareAttempts(tr core.Trigger, r core.Run, s core.Step) {
	h.t.Helper()
	for i, a := range s.Attempts {
		last := i == len(s.Attempts)-1
		superseded := a.State == core.AttemptLost || h.released && a.State == core.AttemptReleased
		if last != (a.State == core.AttemptSucceeded) || !last && !superseded {
			h.t.Errorf("%s: step %d of run %s: attempt %d of %d is %s", tr.Name, s.Index, r.ID, a.Number, len(s.Attempts), a.State)
		}
		if last && a.Output != s.Job {
			h.t.Errorf("%s: step %d of run %s gave %q", tr.Name, s.Index, r.ID, a.Output)
		}
	}
}

// settledLedger waits until no entry is undecided and gives all by slot.
func (h *house) settledLedger(tr core.Trigger) map[time.Time]core.LedgerEntry {
	h.t.Helper()
	var out map[time.Time]core.LedgerEntry
	testenv.Eventually(h.t, 20*time.Second, func() error {
		list, err := h.eng.Ledger(h.ctx, tr.UUID, time.Time{}, time.Time{}, 0, 1000)
		if err != nil {
			return err
		}
		out = map[time.Time]core.LedgerEntry{}
		for _, e := range list {
			if e.Decision == "" {
				return fmt.Errorf("slot %s is undecided", e.From)
			}
			if _, twice := out[e.From]; twice {
				return fmt.Errorf("slot %s is covered twice", e.From)
			}
			out[e.From] = e
		}
		return nil
	})
	return out
}

func (h *house) allRuns(tr core.Trigger) map[string]core.Run {
	h.t.Helper()
	out := map[string]core.Run{}
	for cursor := ""; ; {
		page, err := h.eng.Runs(h.ctx, core.RunFilter{Trigger: tr.UUID, Cursor: cursor, Limit: 25})
		if err != nil {
			h.t.Fatal(err)
		}
		for _, r := range page.Runs {
			if _, twice := out[r.ID]; twice {
				h.t.Errorf("run %s is listed twice", r.ID)
			}
			out[r.ID] = r
		}
		if cursor = page.Next; cursor == "" {
			return out
		}
	}
}

func (h *house) awaitWorkers(n int) {
	h.t.Helper()
	testenv.Eventually(h.t, 30*time.Second, func() error {
		f, err := h.eng.Fleet(h.ctx)
		if err != nil {
			return err
		}
		if len(f.Workers) < n {
			return fmt.Errorf("%d of %d workers are there", len(f.Workers), n)
		}
		return nil
	})
}

// pause lets the system run undisturbed; what is tested is what happens meanwhile.
func (h *house) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.ctx.Done():
	}
}
