package dispatch

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// lateFleet lets something happen between a pass's first look at the fleet and the
// rest of the pass.
type lateFleet struct {
	*bentStore
	once  *sync.Once
	after func()
}

func (s lateFleet) Fleet(ctx context.Context) (core.Fleet, error) {
	f, err := s.bentStore.Fleet(ctx)
	s.once.Do(s.after)
	return f, err
}

// The fleet that judges an attempt is never older than the attempt.
func TestAttemptOfAWorkerThatCameDuringThePass(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		then func(r *rig) // after the worker has begun, still in the same pass
		want core.AttemptState
	}{
		{"it works", func(*rig) {}, core.AttemptRunning},
		// The store may have stood still meanwhile: the next pass knows.
		{"it fell silent", func(r *rig) { r.vanish("b") }, core.AttemptRunning},
		{"it has left", func(r *rig) { r.must(r.store.Leave(r.ctx, "b")) }, core.AttemptLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			r.worker("a", "default")
			d := r.run(nil)
			r.roles.store = lateFleet{bentStore: r.store, once: &sync.Once{}, after: func() {
				r.worker("b", "default")
				_, err := r.eng.Begin(r.ctx, d, "b")
				r.must(err)
				c.then(r)
			}}
			r.pass(trusted())
			if st := r.step(d.Run); len(st.Attempts) != 1 || st.Attempts[0].State != c.want {
				t.Errorf("attempts are %+v (step %s, fence %s), want one that is %s", st.Attempts, st.State, st.Fence, c.want)
			}
		})
	}
}

// What a worker had taken that died is found also where no alarm tells of it, however
// deep it stands in a backlog.
func TestMissesOfADeepDispatchAddUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	const runs = 8
	last := r.backlog(runs)
	d := core.Dispatch{Run: last.ID, Step: 398, Queue: "default"}
	fence := func() core.Fence {
		steps, err := r.store.Steps(r.ctx, last.ID)
		r.must(err)
		return steps[d.Step].Fence
	}
	d.Fence = fence()
	r.state(d, "active") // by a worker that is not there any more
	w := trusted()
	const most = 4 * runs // some rounds
	pass := 0
	for ; pass < most && fence().Counter == 1; pass++ {
		r.beat("a", core.Heartbeat{})
		r.pass(w)
	}
	if pass == most {
		t.Errorf("after %d passes the dispatch was not sent again", pass)
	}
	for range 4 * roundsMost * runs {
		r.pass(w)
	}
	if len(w.absent) != 0 {
		t.Errorf("absences %v are remembered of what was sent again, want none", w.absent)
	}
}

func TestAbsencesAreForgotten(t *testing.T) {
	t.Parallel()
	beat := time.Now()
	for _, c := range []struct {
		name   string
		rounds []int // where each later pass leaves partition 1; -1 = it is not ours then
		meets  bool
		want   []string
	}{
		{"looked at no more, within a round", []int{500, 1000, 1500, 2000, 2500}, false, []string{"d"}},
		{"the round after", []int{500, 0, 500}, false, []string{"d"}},
		{"whole rounds did not meet it", []int{0, 0, 0}, false, nil},
		{"found", []int{500}, true, nil},
		{"its partition moved on", []int{-1}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := trusted()
			v := w.view(core.Fleet{})
			v.misses(1, "d", beat)
			v.rounds[1] = 500
			w.keep(v)
			for _, at := range c.rounds {
				if v = w.view(core.Fleet{}); at >= 0 {
					v.rounds[1] = at
				}
				if c.meets {
					v.meets("d")
				}
				w.keep(v)
			}
			var got []string
			for id := range w.absent {
				got = append(got, id)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("absences of %v are remembered, want of %v", got, c.want)
			}
		})
	}
}
