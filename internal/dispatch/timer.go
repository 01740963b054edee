package dispatch

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/telemetry"
)

// resolution is how often due timers are looked for.
const resolution = 50 * time.Millisecond

// runTimers acts on what is due in the partitions held, until ctx ends.
func (r *Roles) runTimers(ctx context.Context) {
	told := telemetry.Outage{Log: r.log, Away: "timers wait", Back: "timers are acted on again", Every: int(30 * time.Second / resolution)}
	bad := faults{}
	keepOutOfSlots(ctx)
	every(ctx, resolution, func() {
		if err := r.fireTimers(ctx, bad); ctx.Err() == nil {
			told.Note(ctx, err)
		}
	})
}

// keepOutOfSlots returns half a resolution past a multiple of it by the wall clock. Nearly
// all slots are whole seconds: a pace that begins anywhere may look for timers just as a
// fire passes through Redis, each time.
func keepOutOfSlots(ctx context.Context) {
	now := time.Now()
	select {
	case <-time.After(now.Truncate(resolution).Add(3 * resolution / 2).Sub(now)):
	case <-ctx.Done():
	}
}

func (r *Roles) fireTimers(ctx context.Context, bad faults) error {
	now, err := r.store.Now(ctx)
	if err != nil {
		return err
	}
	due, err := r.store.Due(ctx, r.keeper.Shards(), now)
	if err != nil {
		return err
	}
	for partition, timers := range due {
		if err := r.fireAll(ctx, partition, timers, bad); err != nil {
			return err
		}
	}
	return nil
}

// fireAll acts on the timers of one partition. Retries that are due together are
// dispatched together, unless one of them spoils it.
func (r *Roles) fireAll(ctx context.Context, partition int, timers [][]string, bad faults) error {
	var retries [][]string
	var steps []core.Under
	for _, t := range timers {
		if bad.rest(t, time.Now()) {
			continue
		}
		if r.meter.Timer != nil {
			r.meter.Timer(t[0])
		}
		if t[0] == "retry" && len(t) == 2 {
			if d, ok := waiting(t[1]); ok {
				retries, steps = append(retries, t), append(steps, core.Under{Dispatch: d})
				continue
			}
		}
		if err := r.settle(ctx, t, bad, r.fireTimer(ctx, partition, t)); err != nil {
			return err
		}
	}
	err := r.engine.Redispatch(ctx, core.MoveWaiting, steps)
	if err == nil || !isOwn(ctx, err) {
		return err
	}
	for k, t := range retries {
		if err := r.settle(ctx, t, bad, r.engine.Redispatch(ctx, core.MoveWaiting, steps[k:k+1])); err != nil {
			return err
		}
	}
	return nil
}

// settle lets a timer rest that failed for a reason of its own, and gives back
// any other error.
func (r *Roles) settle(ctx context.Context, t []string, bad faults, err error) error {
	if err != nil && isOwn(ctx, err) {
		bad.note(t, time.Now())
	}
	return r.ownFault(ctx, err, "timer not done, it is tried again", strings.Join(t, "|"))
}

// badRest is the wait before a timer that failed for a reason of its own is tried again.
const badRest = 10 * time.Second

// faults are timers that failed, and when.
type faults map[string]time.Time

// note remembers a failure, and forgets those whose rest has passed: their timers may be
// another replica's by now, or gone.
func (f faults) note(timer []string, now time.Time) {
	for key, at := range f {
		if now.Sub(at) >= badRest {
			delete(f, key)
		}
	}
	f[strings.Join(timer, "|")] = now
}

// rest reports whether a timer failed a short while ago.
func (f faults) rest(timer []string, now time.Time) bool {
	if len(f) == 0 {
		return false
	}
	key := strings.Join(timer, "|")
	at, ok := f[key]
	if ok && now.Sub(at) >= badRest {
		delete(f, key)
		return false
	}
	return ok
}

func (r *Roles) fireTimer(ctx context.Context, partition int, t []string) error {
	switch {
	case t[0] == "deadline" && len(t) == 2:
		_, err := r.engine.EndRun(ctx, t[1], "the run's timeout has passed", core.RunTimedOut)
		if core.Is(err, core.NotFound) {
			return nil
		}
		return err
	case t[0] == "forget" && len(t) == 2:
		return r.store.Forget(ctx, t[1])
	case t[0] == "log" && len(t) == 4:
		step, err := strconv.Atoi(t[2])
		attempt, err2 := strconv.Atoi(t[3])
		if err == nil && err2 == nil {
			return r.store.ArchiveLog(ctx, t[1], step, attempt)
		}
	case t[0] == "cbt" && len(t) == 2:
		return r.engine.CheckCBT(ctx, t[1])
	case t[0] == "plan" && len(t) == 2:
		return r.store.DropPlan(ctx, partition, t[1])
	}
	r.log.ErrorContext(ctx, "timer dropped: its kind is unknown, was it written by a newer version?", "timer", strings.Join(t, "|"))
	return r.store.TimerDone(ctx, partition, t)
}

// waiting reads "<run>:<step>:<fence counter>" of a retry timer.
func waiting(text string) (core.Dispatch, bool) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return core.Dispatch{}, false
	}
	step, err := strconv.Atoi(parts[1])
	counter, err2 := strconv.ParseInt(parts[2], 10, 64)
	return core.Dispatch{Run: parts[0], Step: step, Fence: core.Fence{Counter: counter, Random: "0"}}, err == nil && err2 == nil
}
