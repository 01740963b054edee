package judge

import (
	"slices"

	"github.com/takt-dev/takt/pkg/client"
)

// requests: nothing acknowledged is lost, a key means one run, canceled stays
// canceled.
func (v *Verdict) requests(e Evidence) {
	for _, a := range e.Acks {
		v.Acked[a.Verb]++
		for _, id := range a.Runs {
			r, ok := e.Runs[id]
			switch {
			case !ok:
				v.breaks("lost request", "%s %s was acknowledged with run %s, which is not there", a.Verb, a.Key, id)
			case a.Verb == Cancel && r.State != client.RunCanceled:
				v.breaks("cancel", "the cancel of run %s was acknowledged; it is %s", id, r.State)
			}
		}
		if a.Again != nil && !slices.Equal(a.Again, a.Runs) {
			v.breaks("idempotency", "%s %s gave %v and, sent again, %v", a.Verb, a.Key, a.Runs, a.Again)
		}
	}
	made := map[string]int{}
	for _, r := range e.Runs {
		made[r.Target.UUID]++
	}
	for target, n := range e.Requested {
		if made[target] > n {
			v.breaks("idempotency", "%d requests made %d runs of %s", n, made[target], target)
		}
	}
}

// runs: every run and every step has ended, as its steps and attempts say.
func (v *Verdict) runs(e Evidence) {
	for id, r := range e.Runs {
		v.RunStates[string(r.State)]++
		if !r.State.Ended() {
			v.breaks("unfinished", "run %s is %s (%s)", id, r.State, r.Reason)
		}
		if len(r.Steps) != r.Counts.Total {
			v.breaks("steps", "run %s shows %d of its %d steps", id, len(r.Steps), r.Counts.Total)
		}
		if r.State == client.RunSucceeded && r.Counts.Succeeded+r.Counts.Skipped != r.Counts.Total {
			v.breaks("steps", "run %s is succeeded with the steps %+v", id, r.Counts)
		}
		for _, s := range r.Steps {
			v.step(r, s)
		}
	}
}

func (v *Verdict) step(r client.RunDetail, s client.Step) {
	v.StepStates[s.State]++
	v.Redispatch += max(0, len(s.Attempts)-1)
	switch s.State {
	case "succeeded", "skipped":
	case "canceled":
		if r.State != client.RunCanceled {
			v.breaks("steps", "step %d of run %s is canceled, the run is %s", s.Index, r.ID, r.State)
		}
	default: // the witness fails nothing
		v.breaks("steps", "step %d of run %s is %s (%s)", s.Index, r.ID, s.State, s.Reason)
	}
	for i, a := range s.Attempts {
		v.Attempts[a.State]++
		if a.State == "succeeded" && s.State == "succeeded" && i != len(s.Attempts)-1 {
			v.breaks("steps", "attempt %d of step %d of run %s succeeded, and %d more followed", a.Number, s.Index, r.ID, len(s.Attempts)-1-i)
		}
		if a.State == "running" {
			v.breaks("unfinished", "attempt %d of step %d of run %s is running", a.Number, s.Index, r.ID)
		}
	}
}
