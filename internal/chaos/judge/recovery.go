package judge

import (
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/pkg/client"
)

// Elsewhere is the promise: a lost worker's steps run elsewhere within this time,
// if the store lives.
const Elsewhere = 10 * time.Second

// settled is how long after a fault of the store, or of an api process, its
// repairs may still be held up: leases run out, contact has to be unbroken for 5 s.
const settled = 8 * time.Second

// Recovery says how long lost attempts took to begin elsewhere.
type Recovery struct {
	Counted int            `json:"counted"`
	LeftOut map[string]int `json:"leftOut"` // by reason
	P50     float64        `json:"p50"`     // seconds
	P99     float64        `json:"p99"`
	Max     float64        `json:"max"`
}

// lossOf finds the fault that took an attempt from its worker: the latest on its
// host between its begin and the moment it was given up.
func lossOf(faults []Fault, a client.Attempt) (Fault, bool) {
	var last Fault
	for _, f := range faults {
		if f.Kind.LosesWorker() && f.Host == hostOf(a.Worker) && !f.Began.Before(a.Started) && f.Began.Before(a.Ended) && f.Began.After(last.Began) {
			last = f
		}
	}
	return last, last.Kind != ""
}

// recovery measures from the fault to the begin of the attempt that follows.
func (v *Verdict) recovery(e Evidence) {
	v.Recovery.LeftOut = map[string]int{}
	var took []time.Duration
	for _, r := range e.Runs {
		for _, s := range r.Steps {
			for _, a := range s.Attempts {
				f, ok := lossOf(e.Faults, a)
				next, again := attempt(s, a.Number+1)
				if a.State != "lost" || !ok || !again {
					continue
				}
				if why := disturbed(e.Faults, f, next.Started); why != "" {
					v.Recovery.LeftOut[why]++
					continue
				}
				d := next.Started.Sub(f.Began)
				took = append(took, d)
				if d > Elsewhere {
					v.breaks("recovery", "step %d of run %s began elsewhere %s after %s of %s", s.Index, r.ID, d.Round(time.Millisecond), f.Kind, f.Host)
				}
			}
		}
	}
	slices.Sort(took)
	v.Recovery.Counted = len(took)
	if len(took) > 0 {
		v.Recovery.P50, v.Recovery.P99, v.Recovery.Max = quantile(took, 0.5), quantile(took, 0.99), took[len(took)-1].Seconds()
	}
}

// disturbed gives why a recovery is not held to the promise, or "": the store was
// away, or a second worker was lost that may have had the step next.
func disturbed(faults []Fault, f Fault, until time.Time) string {
	for _, g := range faults {
		if g == f {
			continue
		}
		switch {
		case g.Kind.HitsStore() && g.Began.Before(until) && g.Ended.Add(settled).After(f.Began):
			return "a fault of Redis or of an api process overlapped"
		case g.Kind.LosesWorker() && g.Began.Before(until) && g.Ended.After(f.Began):
			return "another worker's fault overlapped"
		}
	}
	return ""
}

func quantile(sorted []time.Duration, q float64) float64 {
	return sorted[int(q*float64(len(sorted)-1)+0.5)].Seconds()
}

// InPeace reports whether a fault loses a worker for certain while nothing else
// disturbs its recovery: then there has to be one to measure.
func InPeace(faults []Fault, f Fault) bool {
	long := f.Kind == plan.KillWorker || f.Ended.Sub(f.Began) > 8*time.Second
	return f.Kind.LosesWorker() && long && disturbed(faults, f, f.Began.Add(Elsewhere)) == ""
}
