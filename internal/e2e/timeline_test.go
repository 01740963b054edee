package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// A step is dispatched and begun on a master whose replicas hear nothing any more.
// The master dies, and with it all that. On the new one the step is dispatched
// again, under a fence with the same counter, to the same worker. The first
// execution must not end the step in the name of the second: the random part of
// the fence tells them apart.
func TestTwoTimelinesDoNotMix(t *testing.T) {
	t.Parallel()
	s := testenv.Sentinel(t)
	work := newHolder(true)
	h := newHouseAt(t, s.URL, work.Spec)
	h.roles()
	r := h.runJob("held", nil) // waits, since nobody can execute it
	s.Replicated()
	s.CutReplicas()
	h.worker("one", 4, work.Type)
	old := work.next(t, 20*time.Second)
	s.FailOver()
	now := work.next(t, 20*time.Second)

	was, is := h.fence(old.ID), h.fence(now.ID)
	if was.Counter != is.Counter || was.Random == is.Random {
		t.Fatalf("fences are %s and %s; the test needs the same counter in both timelines, and another random part", was, is)
	}
	old.end <- "of the lost timeline"
	testenv.Eventually(t, 10*time.Second, func() error {
		f, err := h.store.Fleet(h.ctx)
		for _, held := range f.Held {
			if slices.Contains(held.Running, old.ID) {
				err = fmt.Errorf("the first execution is still listed")
			}
		}
		return err
	})
	if st := h.step(r.ID); st.State != core.StepRunning {
		t.Fatalf("after the end of the first execution the step is %s, want running", st.State)
	}
	now.end <- "of this timeline"
	if r = h.await(r.ID, 10*time.Second); r.State != core.RunSucceeded {
		t.Errorf("run ended as %s (%s)", r.State, r.Reason)
	}
	if st := h.step(r.ID); len(st.Attempts) != 1 || st.Attempts[0].Output != "of this timeline" {
		t.Errorf("attempts are %+v, want the one of this timeline", st.Attempts)
	}
	h.quiet(r)
	work.none(t)
}

func (h *house) fence(dispatch string) core.Fence {
	h.t.Helper()
	d, err := core.ParseDispatch(dispatch)
	if err != nil {
		h.t.Fatal(err)
	}
	return d.Fence
}
