package engine

import (
	"context"
	"slices"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// Most admissions start their run, and what is to be sent then is known before: its steps,
// their queues, and the fences, whose random part is ours to choose. So the dispatches
// travel along with the admission and are in their queues when it is answered, a round
// trip earlier. It is a guess that costs little where it fails: a dispatch whose admission
// was refused, or had been decided before, is not its step's, and Begin turns it away. So
// that there are few of them, dispatches travel along only to targets whose latest
// admission here started a run, and never where steps may be skipped one by one.
//
// The sent set is the outbox of these dispatches as of all others: it is written by the
// admission, whether or not they got through.

// An Along is a Queue whose dispatches can travel along with an admission.
type Along interface {
	// Behind gives a context under which the next admission takes the dispatches along;
	// they come into their queues after it and whatever it decides. went tells, once it
	// has answered, whether they did. ok is false where it cannot be done.
	Behind(ctx context.Context, ds []core.Dispatch) (under context.Context, went func() bool, ok bool)
}

// mostAlong is how many dispatches travel along with one admission. Of a larger run the
// first is begun long before the last, and it is the throughput that counts.
const mostAlong = 16

// An along remembers the targets whose latest admission started a run.
type along struct{ starts memory[core.Target, struct{}] }

func (l *along) note(t core.Target, a core.Admitted, err error) {
	if err == nil && a.Word == core.AdmitStarted && !a.Again {
		l.starts.note(t, struct{}{})
	} else {
		l.starts.forget(t)
	}
}

// admitAlong has an admission decided. What it gives to be sent is all that is not in its
// queue, and rung for, by then.
func (e *Engine) admitAlong(ctx context.Context, a core.Admission) (core.Admitted, error) {
	under, ds, went := e.behind(ctx, &a)
	got, err := e.store.Admit(under, a)
	e.along.note(a.Run.Target, got, err)
	if err == nil && ds != nil && slices.EqualFunc(got.Sends, ds, sameDispatch) && went() {
		e.events.Ring(queuesOf(ds))
		got.Sends = nil
	}
	return got, err
}

// behind puts behind an admission what it will give to be sent; nil if that is not to be
// foreseen. It chooses the random part of the fences.
func (e *Engine) behind(ctx context.Context, a *core.Admission) (under context.Context, ds []core.Dispatch, went func() bool) {
	q, able := e.queue.(Along)
	if !able || len(a.Routes) > mostAlong || a.Overlap.Policy == core.OverlapSkipSteps {
		return ctx, nil, nil
	}
	if _, starts := e.along.starts.of(a.Run.Target); !starts {
		return ctx, nil, nil
	}
	a.Random = id.Fence()
	ds = foreseen(*a)
	under, went, ok := q.Behind(ctx, ds)
	if !ok || len(ds) == 0 {
		return ctx, nil, nil
	}
	return under, ds, went
}

// foreseen gives what an admission will give to be sent if it starts its run.
func foreseen(a core.Admission) []core.Dispatch {
	ds := make([]core.Dispatch, 0, len(a.Routes))
	for k, r := range a.Routes {
		if r.Queue != "" {
			ds = append(ds, core.Dispatch{
				Run: a.Run.ID, Step: k, Fence: core.Fence{Counter: 1, Random: a.Random}, Queue: r.Queue, Timeout: a.Plan[k].Timeout,
			})
		}
	}
	return ds
}

func sameDispatch(a, b core.Dispatch) bool {
	return a.Run == b.Run && a.Step == b.Step && a.Fence == b.Fence && a.Queue == b.Queue
}

func queuesOf(ds []core.Dispatch) []string {
	var queues []string
	for _, d := range ds {
		if !slices.Contains(queues, d.Queue) {
			queues = append(queues, d.Queue)
		}
	}
	return queues
}
