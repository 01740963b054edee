package dispatch

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

func TestRepairOfDispatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		arrange func(r *rig, d core.Dispatch)
		young   bool // the dispatch was sent just now
		early   bool // the reconciler has not had contact for long
		passes  int  // 0 = 1
		again   bool // want a new dispatch
		queue   string
	}{
		{name: "pending in a queue that is read", passes: 4, queue: "default"},
		{name: "pending in a queue that nobody reads", again: true, queue: "host-b", arrange: func(r *rig, d core.Dispatch) {
			r.must(r.store.Leave(r.ctx, "a"))
			r.worker("b", "host-b")
		}},
		{name: "pending in an unread queue, judged too early", early: true, passes: 4, queue: "default", arrange: func(r *rig, d core.Dispatch) {
			r.must(r.store.Leave(r.ctx, "a"))
			r.worker("b", "host-b")
		}},
		{name: "pending where the only reader drains", again: true, queue: "host-b", arrange: func(r *rig, d core.Dispatch) {
			r.beat("a", core.Heartbeat{Draining: true})
			r.worker("b", "host-b")
		}},
		{name: "active and listed", passes: 5, queue: "default", arrange: func(r *rig, d core.Dispatch) {
			r.state(d, "active")
			r.beat("a", core.Heartbeat{Taken: []string{d.ID()}})
		}},
		{name: "active and not listed yet", passes: missesMost, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.state(d, "active") }},
		{name: "active and not listed", passes: missesMost + 1, again: true, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.state(d, "active") }},
		{name: "active and not listed, judged too early", early: true, passes: 5, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.state(d, "active") }},
		{name: "active and listed by a worker that vanished", passes: missesMost + 1, again: true, queue: "default", arrange: func(r *rig, d core.Dispatch) {
			r.state(d, "active")
			r.beat("a", core.Heartbeat{Taken: []string{d.ID()}})
			r.vanish("a")
			r.worker("b", "default")
		}},
		{name: "missing", again: true, early: true, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.must(r.queue.Remove(r.ctx, d)) }},
		{name: "missing but young", young: true, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.must(r.queue.Remove(r.ctx, d)) }},
		{name: "missing but listed", queue: "default", arrange: func(r *rig, d core.Dispatch) {
			r.must(r.queue.Remove(r.ctx, d))
			r.beat("a", core.Heartbeat{Taken: []string{d.ID()}})
		}},
		{name: "in asynq's retry set", again: true, early: true, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.state(d, "retry") }},
		{name: "archived by hand", again: true, early: true, queue: "default", arrange: func(r *rig, d core.Dispatch) { r.state(d, "archived") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			r.worker("a", "default")
			d := r.run(nil)
			if d.Queue != "default" || r.place(d) != queue.Pending {
				t.Fatalf("dispatch is %s in %q, want it pending in default", r.place(d), d.Queue)
			}
			if c.arrange != nil {
				c.arrange(r, d)
			}
			if !c.young {
				r.age()
			}
			w := trusted()
			if c.early {
				w = &watch{}
			}
			for range max(1, c.passes) {
				r.pass(w)
			}
			now := r.dispatch(d.Run)
			if again := now.Fence.Counter == d.Fence.Counter+1; again != c.again || now.Fence.Counter > d.Fence.Counter+1 {
				t.Errorf("fence went from %s to %s, want it raised once: %v", d.Fence, now.Fence, c.again)
			}
			if now.Queue != c.queue {
				t.Errorf("dispatch is for queue %q, want %q", now.Queue, c.queue)
			}
			if c.again && r.place(now) != queue.Pending {
				t.Errorf("new dispatch is %s, want pending", r.place(now))
			}
			if got := r.repairs["sent"]; (got == 1) != c.again {
				t.Errorf("%d repairs counted, want one: %v", got, c.again)
			}
		})
	}
}

// The task that a repair replaces does not stay in its queue.
func TestReplacedTaskIsRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	d := r.run(nil)
	r.must(r.store.Leave(r.ctx, "a"))
	r.worker("b", "host-b")
	r.age()
	r.pass(trusted())
	if got := r.place(d); got != queue.Missing {
		t.Errorf("replaced dispatch is %s, want missing", got)
	}
}

func TestRepairOfAttempts(t *testing.T) {
	t.Parallel()
	unlisted := func(r *rig, _ core.Dispatch) { r.beat("a", core.Heartbeat{}) }
	for _, c := range []struct {
		name   string
		before func(r *rig, d core.Dispatch) // before each pass
		early  bool
		passes int
		want   core.AttemptState
	}{
		{name: "listed", passes: 5, want: core.AttemptRunning, before: func(r *rig, d core.Dispatch) {
			r.beat("a", core.Heartbeat{Running: []string{d.ID()}})
		}},
		{name: "worker vanished", passes: 1, want: core.AttemptLost, before: func(r *rig, _ core.Dispatch) { r.vanish("a") }},
		{name: "worker vanished, judged too early", early: true, passes: 5, want: core.AttemptRunning, before: func(r *rig, _ core.Dispatch) { r.vanish("a") }},
		{name: "worker left", passes: 1, want: core.AttemptLost, before: func(r *rig, _ core.Dispatch) { r.must(r.store.Leave(r.ctx, "a")) }},
		{name: "not listed by heartbeats that may be older", passes: missesMost, want: core.AttemptRunning, before: unlisted},
		{name: "not listed", passes: missesMost + 1, want: core.AttemptLost, before: unlisted},
		{name: "not listed, judged too early", early: true, passes: 5, want: core.AttemptRunning, before: unlisted},
		// One old heartbeat, seen by many passes, proves nothing.
		{name: "heartbeat is on the way", passes: 6, want: core.AttemptRunning, before: func(*rig, core.Dispatch) {}},
		// The reply to its Begin is on the way, or is asked for again.
		{name: "listed as taken", passes: 5, want: core.AttemptRunning, before: func(r *rig, d core.Dispatch) {
			r.beat("a", core.Heartbeat{Taken: []string{d.ID()}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			r.worker("a", "default")
			d := r.run(nil)
			_, err := r.eng.Begin(r.ctx, d, "a")
			r.must(err)
			w := trusted()
			if c.early {
				w = &watch{}
			}
			for range c.passes {
				c.before(r, d)
				r.pass(w)
			}
			st := r.step(d.Run)
			if len(st.Attempts) != 1 || st.Attempts[0].State != c.want {
				t.Fatalf("attempts are %+v, want one that is %s", st.Attempts, c.want)
			}
			if st.Failures != 0 {
				t.Errorf("%d failures counted, want none", st.Failures)
			}
			if c.want == core.AttemptLost && st.Fence.Counter != d.Fence.Counter+1 {
				t.Errorf("fence is %s, want it raised once from %s", st.Fence, d.Fence)
			}
		})
	}
}

func TestOverdueAttemptTimesOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	d := r.run(func(j *core.Job) { j.Timeout = time.Second })
	_, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	r.beat("a", core.Heartbeat{Running: []string{d.ID()}})
	w := trusted()
	r.pass(w)
	if st := r.step(d.Run); st.State != core.StepRunning {
		t.Fatalf("step is %s before its deadline, want running", st.State)
	}
	key := r.root(d.Run) + ":live"
	r.must(r.rdb.HSet(r.ctx, key, d.ID(), "a|1000").Err())
	r.pass(w)
	if st := r.step(d.Run); st.State != core.StepTimedOut {
		t.Errorf("step is %s, want timed_out", st.State)
	}
	if n := r.rdb.HLen(r.ctx, key).Val(); n != 0 {
		t.Errorf("%d attempts are still listed as under way, want none", n)
	}
}

func TestParkedStepGoesWhenAWorkerComes(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	d := r.run(nil)
	if d.Queue != "" {
		t.Fatalf("dispatch is for queue %q though nobody executes it", d.Queue)
	}
	w := trusted()
	r.pass(w)
	if st := r.step(d.Run); st.State != core.StepWaiting || st.Fence != d.Fence {
		t.Fatalf("step is %s, want it to wait untouched", st.State)
	}
	r.worker("a", "default")
	r.pass(w)
	if now := r.dispatch(d.Run); now.Queue != "default" || r.place(now) != queue.Pending {
		t.Errorf("dispatch is %s in queue %q, want pending in default", r.place(now), now.Queue)
	}
}

func TestRepairOfOutbox(t *testing.T) {
	t.Parallel()
	old := float64(time.Now().Add(-time.Minute).UnixMilli())
	for _, c := range []struct {
		name   string
		effect func(d core.Dispatch) string
		gone   bool
		log    string
	}{
		{"of a kind nobody knows", func(core.Dispatch) string { return "levitate|x" }, true, "effect dropped"},
		{"expand a run that is gone", func(core.Dispatch) string { return "expand|" + gone }, true, ""},
		{"cancel a run that is gone", func(core.Dispatch) string { return "cancel|" + gone }, true, ""},
		{"tell a worker to stop", func(d core.Dispatch) string { return "stop|a|" + d.ID() }, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			r.worker("a", "default")
			d := r.run(nil)
			key := r.root(d.Run) + ":outbox"
			r.must(r.rdb.ZAdd(r.ctx, key, redis.Z{Score: old, Member: c.effect(d)}).Err())
			r.pass(trusted())
			if n := r.rdb.ZCard(r.ctx, key).Val(); (n == 0) != c.gone {
				t.Errorf("%d effects left, want the effect gone: %v", n, c.gone)
			}
			if c.log != "" && r.log.count(c.log) != 1 {
				t.Errorf("%q was logged %d times, want once", c.log, r.log.count(c.log))
			}
			if !c.gone {
				stops, err := r.store.Beat(r.ctx, core.Heartbeat{Worker: "a"}, nil)
				r.must(err)
				if len(stops) != 1 || stops[0] != d.ID() {
					t.Errorf("the worker hears %q, want the dispatch to stop", stops)
				}
			}
		})
	}
}

// gone is the id of a run that never was, in partition 0.
const gone = "0123456789ab7cde8f00000000000000"

// spoiled makes a run whose rows no script can work on: its step is missing.
func (r *rig) spoiled() {
	r.t.Helper()
	r.must(r.rdb.HSet(r.ctx, "takt:{p:0}:run:"+gone, "st", "r", "n", 1, "cur", 1, "tg", "x", "pl", "none").Err())
}

// One effect that fails for a reason of its own does not keep the reconciler from
// everything else.
func TestSpoiledEffectHoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	d := r.run(nil)
	_, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	r.spoiled()
	r.must(r.rdb.ZAdd(r.ctx, "takt:{p:0}:outbox", redis.Z{Score: 1, Member: "cancel|" + gone}).Err())
	r.vanish("a")
	r.pass(trusted())
	if st := r.step(d.Run); st.Attempts[0].State != core.AttemptLost {
		t.Errorf("attempt of the vanished worker is %s, want lost", st.Attempts[0].State)
	}
	if r.log.count("effect not done") != 1 {
		t.Error("the spoiled effect was not logged")
	}
}

func TestTwoReconcilersAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	other := r.newRoles()
	r.worker("a", "default")
	r.worker("b", "default")
	const n = 12
	var begun, missing []core.Dispatch
	for range n {
		d := r.run(nil)
		_, err := r.eng.Begin(r.ctx, d, "a")
		r.must(err)
		begun = append(begun, d)
		m := r.run(nil)
		r.must(r.queue.Remove(r.ctx, m))
		missing = append(missing, m)
	}
	r.age()
	r.vanish("a")
	fleet, err := r.store.Fleet(r.ctx)
	r.must(err)
	var wg sync.WaitGroup
	for _, roles := range []*Roles{r.roles, other} {
		wg.Go(func() {
			for p := range 2 {
				if err := roles.repairShard(r.ctx, p, trusted().view(fleet)); err != nil {
					t.Errorf("repair partition %d: %v", p, err)
				}
			}
		})
	}
	wg.Wait()
	for _, d := range begun {
		if st := r.step(d.Run); st.Lost != 1 || st.Fence.Counter != d.Fence.Counter+1 || len(st.Attempts) != 1 {
			t.Errorf("step lost %d attempts and has fence %s, want one and the fence raised once from %s", st.Lost, st.Fence, d.Fence)
		}
	}
	for _, d := range missing {
		if now := r.dispatch(d.Run); now.Fence.Counter != d.Fence.Counter+1 || r.place(now) != queue.Pending {
			t.Errorf("dispatch has fence %s and is %s, want the fence raised once from %s and pending", now.Fence, r.place(now), d.Fence)
		}
	}
}

func TestContact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		at   []float64 // when the store answered, in seconds
		want bool
	}{
		{"first answer", []float64{0}, false},
		{"not long enough", []float64{0, 1, 2, 3, 4}, false},
		{"steady", []float64{0, 1, 2, 3, 4, 5}, true},
		{"an answer held up by an outage", []float64{0, 1, 2, 3, 4, 5, 6, 12}, false},
		{"just after it", []float64{0, 1, 2, 3, 4, 5, 6, 12, 12.01, 13, 14}, false},
		{"long after it", []float64{0, 6, 7, 8, 9, 10, 11, 12}, true},
		{"slow and steady", []float64{0, 2, 4, 6}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var w watch
			begun := time.Now()
			for _, s := range c.at {
				w.heard(begun.Add(time.Duration(s * float64(time.Second))))
			}
			if got := w.view(core.Fleet{}).trusted; got != c.want {
				t.Errorf("trusted after answers at %v is %v, want %v", c.at, got, c.want)
			}
		})
	}
}

// Redis stands still for six seconds and comes back. Every heartbeat is old then,
// and no worker is lost.
func TestFrozenRedisLosesNoWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	d := r.run(nil)
	_, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	h := core.Heartbeat{Worker: "a", Running: []string{d.ID()}}
	_, err = r.store.Beat(r.ctx, h, nil)
	r.must(err)

	w := trusted()
	r.redis.Freeze()
	froze := time.Now()
	passed := make(chan error, 1)
	go func() { passed <- r.roles.pass(r.ctx, w) }()
	testenv.Eventually(t, 10*time.Second, func() bool { return time.Since(froze) > 6*time.Second })
	r.redis.Thaw()
	if err := <-passed; err != nil {
		w.lose()
	}
	// Its heart beats again only now.
	r.pass(w)
	if st := r.step(d.Run); st.State != core.StepRunning {
		t.Fatalf("right after the outage the step is %s with attempts %+v, want running", st.State, st.Attempts)
	}
	_, err = r.store.Beat(r.ctx, h, nil)
	r.must(err)
	r.pass(w)
	if st := r.step(d.Run); st.State != core.StepRunning || len(st.Attempts) != 1 {
		t.Errorf("step is %s with attempts %+v, want the one running", st.State, st.Attempts)
	}
}

func TestReconcilerBacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	g := r.group(600) // more than one page of the sent set
	run, err := r.eng.RunGroup(r.ctx, g, "", core.Overlap{})
	r.must(err)
	// All of the queue's content is lost.
	keys, err := r.rdb.Keys(r.ctx, "asynq:*").Result()
	r.must(err)
	for _, k := range keys {
		r.must(r.rdb.Del(r.ctx, k).Err())
	}
	r.age()
	r.pass(trusted())
	steps, err := r.store.Steps(r.ctx, run.ID)
	r.must(err)
	ds := make([]core.Dispatch, len(steps))
	for i, st := range steps {
		ds[i] = core.Dispatch{Run: run.ID, Step: i, Fence: st.Fence, Queue: st.Queue}
	}
	places, err := r.queue.Where(r.ctx, ds)
	r.must(err)
	for i, p := range places {
		if p != queue.Pending || ds[i].Fence.Counter != 2 {
			t.Fatalf("dispatch %d is %s with fence %s, want pending with fence 2", i, p, ds[i].Fence)
		}
	}
}

// group makes a group of so many jobs.
func (r *rig) group(jobs int) string {
	r.t.Helper()
	g, err := r.eng.CreateGroup(r.ctx, core.Group{Meta: core.Meta{Name: "g"}, Type: "noop", Enabled: true})
	r.must(err)
	ids := make([]string, jobs)
	for i := range ids {
		ids[i] = r.job(func(j *core.Job) { j.Name = fmt.Sprint("j", i) }).UUID
	}
	_, err = r.eng.AddJobs(r.ctx, g.UUID, ids)
	r.must(err)
	return g.UUID
}

// backlog has so many runs of 400 steps wait since a minute ago, and gives the last.
func (r *rig) backlog(runs int) (last core.Run) {
	r.t.Helper()
	g := r.group(400)
	for range runs {
		var err error
		last, err = r.eng.RunGroup(r.ctx, g, "", core.Overlap{})
		r.must(err)
	}
	r.age()
	return last
}

// A long backlog is looked at in parts, which together are all of it.
func TestALongBacklogIsLookedAtInParts(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	const runs = 8
	last := r.backlog(runs)
	looked := func(w *watch) int {
		before := r.hgets()
		r.pass(w)
		return r.hgets() - before
	}
	w := trusted()
	if got := looked(w); got < 400*runs {
		t.Errorf("the first pass looked at %d dispatches, want all %d", got, 400*runs)
	}
	looks := 0
	for range runs {
		got := looked(w)
		if got > 2500 {
			t.Errorf("a later pass looked at %d dispatches, want a part of the %d", got, 400*runs)
		}
		looks += got
	}
	if looks < 2*400*runs {
		t.Errorf("%d passes looked at %d dispatches, want two rounds of %d", runs, looks, 400*runs)
	}
	// One that stands at the end is lost, and found in its turn.
	d := core.Dispatch{Run: last.ID, Step: 399, Queue: "default"}
	steps, err := r.store.Steps(r.ctx, last.ID)
	r.must(err)
	d.Fence = steps[399].Fence
	r.must(r.queue.Remove(r.ctx, d))
	for range runs {
		r.pass(w)
	}
	if steps, err = r.store.Steps(r.ctx, last.ID); err != nil || steps[399].Fence.Counter != 2 {
		t.Errorf("after a round the lost dispatch has the fence %s (%v), want it sent again", steps[399].Fence, err)
	}
	// What a lost worker had taken is found in the passes that follow.
	d = core.Dispatch{Run: last.ID, Step: 398, Queue: "default", Fence: steps[398].Fence}
	r.worker("b", "default")
	r.pass(w)
	r.state(d, "active")
	r.beat("b", core.Heartbeat{Taken: []string{d.ID()}})
	r.vanish("b")
	for range missesMost + 1 {
		r.beat("a", core.Heartbeat{})
		r.pass(w)
	}
	if steps, err = r.store.Steps(r.ctx, last.ID); err != nil || steps[398].Fence.Counter != 2 {
		t.Errorf("after the loss of its worker the dispatch has the fence %s (%v), want it sent again", steps[398].Fence, err)
	}
}

// hgets is how many single fields Redis was asked for: one for each dispatch that is
// looked at, as it is now.
func (r *rig) hgets() int {
	r.t.Helper()
	text, err := r.rdb.Info(r.ctx, "commandstats").Result()
	r.must(err)
	_, rest, _ := strings.Cut(text, "cmdstat_hget:calls=")
	calls, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(calls)
	r.must(err)
	return n
}

func TestNextLook(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		begun map[int]int
		alarm bool
		had   []look
		from  int
		more  bool
		round int // where the next pass goes on
	}{
		{name: "all was in the first look", begun: map[int]int{1: 0}, had: []look{{next: 0}}},
		{name: "a new partition", had: []look{{next: 10}}, from: 10, more: true},
		{name: "a new partition, further on", had: []look{{next: 10}, {next: 20}}, from: 20, more: true},
		{name: "the part that follows the front", begun: map[int]int{1: 0}, had: []look{{next: 10}}, from: 10, more: true},
		{name: "the part that is its turn", begun: map[int]int{1: 50}, had: []look{{next: 10}}, from: 50, more: true},
		{name: "after that part", begun: map[int]int{1: 50}, had: []look{{next: 10}, {next: 60}}, round: 60},
		{name: "after the last part", begun: map[int]int{1: 50}, had: []look{{next: 10}, {next: 0}}},
		{name: "something was lost in front", begun: map[int]int{1: 50}, had: []look{{next: 10, lost: true}}, from: 10, more: true},
		{name: "something was lost in a part", begun: map[int]int{1: 50}, had: []look{{next: 10}, {next: 60, lost: true}}, from: 60, more: true},
		{name: "a worker was lost", begun: map[int]int{1: 50}, alarm: true, had: []look{{next: 10}, {next: 20}}, from: 20, more: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &view{alarmed: c.alarm, begun: c.begun, rounds: map[int]int{}}
			from, more := v.next(1, c.had)
			if from != c.from || more != c.more || v.rounds[1] != c.round {
				t.Errorf("got %d, %v and the round at %d; want %d, %v and %d", from, more, v.rounds[1], c.from, c.more, c.round)
			}
		})
	}
}

func TestLossOfAWorkerAlarms(t *testing.T) {
	t.Parallel()
	fleet := func(live bool) core.Fleet {
		return core.Fleet{Workers: map[string]core.Worker{"a": {Live: true}, "b": {Live: live}}}
	}
	var w watch
	at := time.Now()
	for _, c := range []struct {
		after time.Duration
		live  bool
		want  bool
		loses bool // the store goes away afterwards
	}{
		// Nobody knows who died before the first answer.
		{after: 0, live: true, want: true}, {after: alarm - 1, live: true, want: true}, {after: alarm, live: true},
		{after: 12 * time.Second, want: true}, {after: 13 * time.Second, want: true}, {after: 12*time.Second + alarm},
		{after: 30 * time.Second, live: true}, {after: 31 * time.Second, want: true}, {after: 31*time.Second + alarm},
		{after: 50 * time.Second, live: true, loses: true},
		{after: 60 * time.Second, want: true}, {after: 60*time.Second + alarm},
	} {
		w.heard(at.Add(c.after))
		if got := w.view(fleet(c.live)).alarmed; got != c.want {
			t.Errorf("after %s, b alive %v: alarmed is %v, want %v", c.after, c.live, got, c.want)
		}
		if c.loses {
			w.lose()
		}
	}
}
