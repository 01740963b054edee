package judge

import (
	"cmp"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/chaos/witness"
	"github.com/takt-dev/takt/pkg/client"
)

// An execution is what the witness saw of one.
type execution struct {
	witness.Line           // its begin
	done         time.Time // zero if its work was not done to the end
}

func (x execution) began() time.Time { return time.Unix(0, x.At) }

type stepKey struct {
	run  string
	step int
}

// executions folds the witness's lines, in the order of their begins.
func executions(lines []witness.Line) map[stepKey][]execution {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b witness.Line) int { return cmp.Compare(a.At, b.At) })
	out := map[stepKey][]execution{}
	for _, l := range lines {
		k := stepKey{l.Run, l.Step}
		if l.Event == witness.Began {
			out[k] = append(out[k], execution{Line: l})
			continue
		}
		for i := len(out[k]) - 1; i >= 0; i-- {
			x := &out[k][i]
			if x.Dispatch != l.Dispatch || x.PID != l.PID {
				continue
			}
			if l.Event == witness.Done {
				x.done = time.Unix(0, l.At)
			}
			break
		}
	}
	return out
}

// witness: what succeeded was executed before; what was recorded as ended was not executed
// after that; what was executed more than once has a cause among the faults. The promise
// is at least once, but nothing that works loses an attempt.
func (v *Verdict) witness(e Evidence) {
	seen := executions(e.Lines)
	for _, r := range e.Runs {
		for _, s := range r.Steps {
			k := stepKey{r.ID, s.Index}
			v.testify(e, r, s, seen[k])
			delete(seen, k)
		}
	}
	for k, x := range seen {
		v.Executions += len(x)
		v.breaks("witness", "step %d of run %s was executed, which Takt does not know", k.step, k.run)
	}
}

// Heard is how long a running attempt may work on after its cancel was
// acknowledged, if the store and its worker live: the hint may be lost, the outbox
// is looked at after 2 s, and the next heartbeat brings it.
const Heard = 10 * time.Second

// deaf gives when the cancel of a run was acknowledged, if an execution worked on
// for too long after it.
func deaf(e Evidence, run string, x execution) (time.Time, bool) {
	for _, a := range e.Acks {
		if a.Verb != Cancel || !slices.Contains(a.Runs, run) || x.done.Sub(a.At) <= Heard || x.began().After(a.At) {
			continue
		}
		hit := func(f Fault) bool {
			return (f.Kind.HitsStore() || f.Kind.LosesWorker() && f.Host == x.Host) && f.Began.Before(x.done) && f.Ended.Add(settled).After(a.At)
		}
		return a.At, !slices.ContainsFunc(e.Faults, hit)
	}
	return time.Time{}, false
}

func (v *Verdict) testify(e Evidence, r client.RunDetail, s client.Step, seen []execution) {
	v.Executions += len(seen)
	succeeded := s.State != "succeeded"
	for i, x := range seen {
		a, ok := attempt(s, x.Attempt)
		if !ok || hostOf(a.Worker) != x.Host {
			v.breaks("witness", "attempt %d of step %d of run %s was executed on %s, Takt says %q", x.Attempt, s.Index, r.ID, x.Host, a.Worker)
			continue
		}
		ended := s.Ended.Add(time.Millisecond) // Redis counts whole ones, rounded down
		if !x.done.IsZero() && a.State == "succeeded" && (s.State != "succeeded" || !x.done.After(ended)) {
			succeeded = true
		}
		if !x.done.IsZero() && (a.State == "lost" || a.State == "released") {
			v.Refused++
		}
		if !s.Ended.IsZero() && x.began().After(ended) {
			v.breaks("executed after its end", "attempt %d of step %d of run %s, which was %s at %s, began at %s on %s",
				x.Attempt, s.Index, r.ID, s.State, clock(s.Ended), clock(x.began()), x.Host)
		}
		if at, ok := deaf(e, r.ID, x); ok {
			v.breaks("cancel", "attempt %d of step %d of run %s worked until %s on %s; its cancel was acknowledged at %s",
				x.Attempt, s.Index, r.ID, clock(x.done), x.Host, clock(at))
		}
		if i > 0 {
			v.duplicate(e, r, s, seen[i-1], x)
		}
	}
	if !succeeded {
		v.breaks("witness", "step %d of run %s succeeded, and no execution of its last attempt was done by then (%d seen)", s.Index, r.ID, len(seen))
	}
}

// duplicate finds why a step was executed once more.
func (v *Verdict) duplicate(e Evidence, r client.RunDetail, s client.Step, before, x execution) {
	if before.Attempt == x.Attempt {
		v.breaks("witness", "attempt %d of step %d of run %s was executed twice, on %s and %s", x.Attempt, s.Index, r.ID, before.Host, x.Host)
		return
	}
	a, _ := attempt(s, min(before.Attempt, x.Attempt))
	if a.State != "lost" && a.State != "released" {
		v.breaks("witness", "step %d of run %s was executed again after attempt %d, which is %s", s.Index, r.ID, a.Number, a.State)
	}
	cause := blame(e.Faults, a)
	if cause == "" {
		v.breaks("duplicate", "step %d of run %s was executed again on %s at %s, after attempt %d, %s at %s on %s, which no fault struck",
			s.Index, r.ID, x.Host, clock(x.began()), a.Number, a.State, clock(a.Ended), before.Host)
		cause = "no fault"
	}
	v.Duplicates[a.State+" by "+cause]++
}

func attempt(s client.Step, n int) (client.Attempt, bool) {
	for _, a := range s.Attempts {
		if a.Number == n {
			return a, true
		}
	}
	return client.Attempt{}, false
}

// onTheWay is how long after a fault of its worker an attempt may still begin: its
// Begin was on the way to Redis, or its answer on the way back.
const onTheWay = 250 * time.Millisecond

// blame finds the fault that an attempt was lost or released by: its worker's, or
// one of the store, without which a worker gives up what it executes after 4 s; "" if
// there was none.
func blame(faults []Fault, a client.Attempt) string {
	early := a
	early.Started = a.Started.Add(-onTheWay)
	if f, ok := lossOf(faults, early); ok {
		return string(f.Kind)
	}
	for _, f := range faults {
		if f.Kind.HitsStore() && f.Began.Before(a.Ended) && f.Ended.After(a.Started) {
			return string(f.Kind)
		}
	}
	return ""
}
