package dispatch

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/telemetry"
)

const (
	pace = time.Second
	// outboxAge is the age from which an effect counts as left behind.
	outboxAge = 2 * time.Second
	// sentAge is the age from which a dispatch that has not begun is looked for.
	sentAge = 3 * time.Second
)

// reconcile repairs the partitions held, until ctx ends.
func (r *Roles) reconcile(ctx context.Context) {
	var w watch
	told := telemetry.Outage{Log: r.log, Away: "reconciler waits", Back: "reconciler goes on"}
	every(ctx, pace, func() {
		err := r.pass(ctx, &w)
		if err != nil {
			w.lose()
		}
		if ctx.Err() == nil {
			told.Note(ctx, err)
		}
	})
}

func (r *Roles) pass(ctx context.Context, w *watch) error {
	ctx, cancel := context.WithTimeout(ctx, 10*pace)
	defer cancel()
	fleet, err := r.store.Fleet(ctx)
	if err != nil {
		return err
	}
	shards := r.keeper.Shards()
	if r.meter.Leases != nil {
		r.meter.Leases(len(shards))
	}
	w.heard(time.Now())
	v := w.view(fleet)
	for _, n := range shards {
		if err := r.repairShard(ctx, n, v); err != nil {
			return err
		}
		w.heard(time.Now())
	}
	w.keep(v)
	return nil
}

func (r *Roles) repairShard(ctx context.Context, n int, v *view) error {
	if err := r.repairOutboxes(ctx, n, v.fleet.Now); err != nil {
		return err
	}
	if err := r.repairSent(ctx, n, v); err != nil {
		return err
	}
	if err := r.unpark(ctx, n); err != nil {
		return err
	}
	return r.repairLive(ctx, n, v)
}

// repairOutboxes does the effects that nobody confirmed in time.
func (r *Roles) repairOutboxes(ctx context.Context, n int, now time.Time) error {
	effects, err := r.store.Outbox(ctx, n, now.Add(-outboxAge))
	if err != nil {
		return err
	}
	for _, e := range effects {
		if err := r.ownFault(ctx, r.repairEffect(ctx, n, e, r.store.Done), "effect not done", strings.Join(e, "|")); err != nil {
			return err
		}
	}
	r.repaired("outbox", len(effects))
	links, err := r.store.TriggerOutbox(ctx, n, now.Add(-outboxAge))
	if err != nil {
		return err
	}
	for _, e := range links {
		if err := r.ownFault(ctx, r.repairEffect(ctx, n, e, r.store.TriggerDone), "effect not done", strings.Join(e, "|")); err != nil {
			return err
		}
	}
	r.repaired("outbox", len(links))
	return nil
}

func (r *Roles) repairEffect(ctx context.Context, n int, e []string, done func(context.Context, int, []string) error) error {
	switch {
	case e[0] == "expand" && len(e) == 2:
		eff, err := r.engine.Expand(ctx, e[1])
		if core.Is(err, core.NotFound) {
			return done(ctx, n, e)
		}
		r.engine.Deliver(ctx, eff)
		return err
	case e[0] == "cancel" && len(e) == 2:
		_, err := r.engine.EndRun(ctx, e[1], "canceled", core.RunCanceled)
		if core.Is(err, core.NotFound) {
			return done(ctx, n, e)
		}
		return err
	case e[0] == "stop" && len(e) == 3:
		// It stays until the attempt has ended, so that a worker that missed it hears again.
		return r.store.TellStop(ctx, core.Stop{Worker: e[1], Dispatch: e[2]})
	case e[0] == "member" && len(e) == 3:
		return r.engine.SettleMember(ctx, e[1], e[2])
	case e[0] == "cbt" && len(e) == 2:
		return r.engine.SettleCBT(ctx, e[1])
	case e[0] == "cbtvm" && len(e) == 3:
		return r.engine.SettleCBTClaim(ctx, e[1], e[2])
	case e[0] == "link" && len(e) == 4:
		return r.engine.SettleLink(ctx, core.Target{Kind: core.TargetKind(e[1]), UUID: e[2]}, e[3])
	}
	r.log.ErrorContext(ctx, "effect dropped: its kind is unknown, was it written by a newer version?", "effect", strings.Join(e, "|"))
	return done(ctx, n, e)
}

// repairSent looks for dispatches that did not begin. Those that wait in a queue
// that somebody reads, and those that a live worker has taken, are left alone;
// any other is sent again under a new fence.
func (r *Roles) repairSent(ctx context.Context, n int, v *view) error {
	again, err := r.lookAtSent(ctx, n, v)
	if err != nil || len(again) == 0 {
		return err
	}
	r.log.InfoContext(ctx, "dispatches sent again", "partition", n, "count", len(again), "first", again[0].Dispatch.ID())
	if err := r.redispatch(ctx, core.MoveSent, again); err != nil {
		return err
	}
	for _, u := range again {
		if err := r.queue.Remove(ctx, u.Dispatch); err != nil {
			r.log.DebugContext(ctx, "replaced task left in its queue", "dispatch", u.Dispatch.ID(), "err", err)
		}
	}
	r.repaired("sent", len(again))
	return nil
}

// lookAtSent gives the lost ones of the dispatches that a pass looks at.
func (r *Roles) lookAtSent(ctx context.Context, n int, v *view) ([]core.Under, error) {
	taken := takenBy(v.fleet)
	var again []core.Under
	var had []look
	for from, more := 0, true; more; from, more = v.next(n, had) {
		sent, next, err := r.store.SentBefore(ctx, n, v.fleet.Now.Add(-sentAge), from)
		if err != nil {
			return nil, err
		}
		lost, err := r.lostDispatches(ctx, n, sent, v, taken)
		if err != nil {
			return nil, err
		}
		again = append(again, lost...)
		had = append(had, look{next, len(lost) > 0})
	}
	return again, nil
}

// takenBy gives the dispatches that live workers say they hold.
func takenBy(fleet core.Fleet) map[string]bool {
	taken := map[string]bool{}
	for id, h := range fleet.Held {
		if !fleet.Workers[id].Live {
			continue
		}
		for _, d := range h.Taken {
			taken[d] = true
		}
		for _, d := range h.Running {
			taken[d] = true
		}
	}
	return taken
}

func (r *Roles) lostDispatches(ctx context.Context, n int, sent []core.Sent, v *view, taken map[string]bool) ([]core.Under, error) {
	ds := make([]core.Dispatch, len(sent))
	for i, s := range sent {
		ds[i] = s.Dispatch
	}
	places, err := r.queue.Where(ctx, ds)
	if err != nil {
		return nil, err
	}
	var lost []core.Under
	for i, s := range sent {
		if isLost(n, s.Dispatch, places[i], v, taken) {
			lost = append(lost, core.Under{Dispatch: s.Dispatch})
		}
	}
	return lost, nil
}

// isLost judges a dispatch that has not begun by where its task is.
func isLost(n int, d core.Dispatch, place queue.Place, v *view, taken map[string]bool) bool {
	if place == queue.Active && !taken[d.ID()] {
		// Taken by a worker that does not list it: it died, or its heartbeat is on the way.
		return v.misses(n, d.ID(), v.fleet.Now)
	}
	v.meets(d.ID())
	switch {
	case taken[d.ID()]:
		return false
	case place == queue.Pending:
		return v.trusted && !read(v.fleet, d.Queue)
	}
	return true
}

// read reports whether a live worker reads a queue.
func read(fleet core.Fleet, q string) bool {
	for _, w := range fleet.Workers {
		if w.Live && !w.Draining && slices.Contains(w.Queues, q) {
			return true
		}
	}
	return false
}

func (r *Roles) unpark(ctx context.Context, n int) error {
	parked, err := r.store.Parked(ctx, n)
	if err != nil {
		return err
	}
	moved, err := r.engine.Unpark(ctx, parked)
	if err == nil {
		r.repaired("parked", moved)
	}
	return r.ownFault(ctx, err, "parked steps not sent", "partition "+strconv.Itoa(n))
}

// repairLive finds attempts whose worker vanished, attempts that their live
// worker does not know of (its Begin took effect but the reply was lost), and
// attempts that overran their timeout.
func (r *Roles) repairLive(ctx context.Context, n int, v *view) error {
	live, err := r.store.Live(ctx, n)
	if err != nil {
		return err
	}
	var vanished, lost []core.Under
	for _, u := range live {
		id := u.Dispatch.ID()
		w, known := v.fleet.Workers[u.Worker]
		if !known || !w.Live {
			vanished = append(vanished, u)
			continue
		}
		if !holds(v.fleet.Held[u.Worker], id) {
			if v.misses(n, id, w.Seen) {
				lost = append(lost, u)
			}
			continue
		}
		v.meets(id)
		if err := r.timeOut(ctx, u, v.fleet.Now); err != nil {
			return err
		}
	}
	if v.trusted {
		gone, err := r.stillGone(ctx, v.fleet, vanished)
		if err != nil {
			return err
		}
		lost = append(lost, gone...)
	}
	if len(lost) > 0 {
		r.log.WarnContext(ctx, "attempts lost", "partition", n, "count", len(lost), "worker", lost[0].Worker, "first", lost[0].Dispatch.ID())
	}
	r.repaired("lost", len(lost))
	return r.redispatch(ctx, core.MoveLost, lost)
}

// timeOut ends an attempt that has overrun its timeout.
func (r *Roles) timeOut(ctx context.Context, u core.Under, now time.Time) error {
	if !now.After(u.Overdue) {
		return nil
	}
	id := u.Dispatch.ID()
	r.log.WarnContext(ctx, "attempt overdue", "dispatch", id, "worker", u.Worker)
	if err := r.ownFault(ctx, r.engine.TimeOut(ctx, u), "attempt not timed out", id); err != nil {
		return err
	}
	r.repaired("overdue", 1)
	return nil
}

// stillGone gives the attempts whose worker is not there by a second look at the fleet
// either. The first is from the begin of the pass, so it knows nothing of a worker that
// has come since and has begun what is under way now.
func (r *Roles) stillGone(ctx context.Context, before core.Fleet, vanished []core.Under) ([]core.Under, error) {
	if len(vanished) == 0 {
		return nil, nil
	}
	now, err := r.store.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(vanished, func(u core.Under) bool {
		_, knew := before.Workers[u.Worker]
		w, knows := now.Workers[u.Worker]
		// One that came and fell silent since is for the next pass, which sees whether
		// the store was silent as well.
		return w.Live || knows && !knew
	}), nil
}

// holds reports whether a worker says that it has an attempt. One that it lists
// as taken may have begun since.
func holds(h core.Heartbeat, dispatch string) bool {
	return slices.Contains(h.Running, dispatch) || slices.Contains(h.Taken, dispatch)
}
