package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// A worker has taken many short messages and begun few of them when it dies, stands
// still or is told to end. All of its steps run elsewhere within the promised time,
// and those it had not begun are executed once.
func TestFullBuffer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		strike func(p *victim)
		after  func(p *victim)
		orders bool // its attempts end by themselves: all steps are executed once
	}{
		{name: "killed", strike: func(p *victim) { p.kill() }},
		{name: "stands still", strike: func(p *victim) { p.freeze() }, after: func(p *victim) {
			p.thaw()
			p.h.pause(3 * time.Second) // it goes on with what it has in its buffer
		}},
		{name: "told to end", orders: true, strike: func(p *victim) { p.term() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, mark.Spec)
			h.roles()
			w := newWitness(t)
			const work = 100 * time.Millisecond
			victim := h.process(orders{Role: "worker-process", Host: "victim", Witness: w.path, Work: work})
			h.awaitWorkers(1)
			const jobs = 400
			r, err := h.eng.RunGroup(h.ctx, h.group("mark", jobs), "", core.Overlap{})
			if err != nil {
				t.Fatal(err)
			}
			h.process(orders{Role: "worker-process", Host: "other", Witness: w.path, Work: work})
			testenv.Eventually(t, 20*time.Second, func() bool { return len(w.read(t)) >= 40 })
			c.strike(victim)
			struck := time.Now()
			begun := h.begunBy("victim")
			r = h.await(r.ID, elsewhere)
			t.Logf("all %d steps ended %s after the strike, the victim had begun %d", jobs, time.Since(struck).Round(10*time.Millisecond), len(begun))
			if r.State != core.RunSucceeded || r.Counts.Succeeded != jobs {
				t.Errorf("run ended as %s, %+v", r.State, r.Counts)
			}
			if c.after != nil {
				c.after(victim)
			}
			h.wantExecutions(w, r, begun, c.orders)
			h.quiet(r)
		})
	}
}

// begunBy gives the steps that a host has begun and not ended.
func (h *house) begunBy(host string) map[string]bool {
	h.t.Helper()
	f, err := h.store.Fleet(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	begun := map[string]bool{}
	for n := range h.store.Partitions() {
		live, err := h.store.Live(h.ctx, n)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, u := range live {
			if f.Workers[u.Worker].Host == host {
				begun[u.Dispatch.Key()] = true
			}
		}
	}
	return begun
}

// wantExecutions checks that each step of a run was executed, once, or twice where
// its first worker had begun it and may not end it.
func (h *house) wantExecutions(w witness, r core.Run, begun map[string]bool, once bool) {
	h.t.Helper()
	times := map[string]int{}
	ids := map[string]bool{}
	for _, e := range w.read(h.t) {
		times[e.key]++
		if ids[e.attempt] {
			h.t.Errorf("dispatch %s was executed twice", e.attempt)
		}
		ids[e.attempt] = true
	}
	again := 0
	for n := range r.Counts.Total {
		key := fmt.Sprintf("%s:%d", r.ID, n)
		most := 1
		if begun[key] && !once {
			most = 2
		}
		if times[key] < 1 || times[key] > most {
			h.t.Errorf("step %d was executed %d times, want at most %d", n, times[key], most)
		}
		again += times[key] - 1
	}
	h.t.Logf("%d steps were executed again", again)
}
