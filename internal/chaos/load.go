package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/chaos/judge"
	"github.com/takt-dev/takt/pkg/client"
)

// The steady part of the load that comes by request.
const (
	runEach     = 800 * time.Millisecond // 25 steps a second
	fireEach    = 5 * time.Second
	editEach    = 4 * time.Second
	skipEach    = 1200 * time.Millisecond
	longEach    = 4 * time.Second
	cancelOne   = 5 // one run in so many is canceled
	repeatOne   = 3 // one request in so many is sent again after its answer
	repeatFirst = 2 * time.Second
	repeatLast  = 4 * time.Second
	retryFirst  = 100 * time.Millisecond
	retryLast   = time.Second
)

// A load sends requests to both api processes in turn. A request that was refused,
// or whose answer was lost, is sent again with the same key until it is answered
// with 2xx: what may have been done must be done once.
type load struct {
	clients []*client.Client
	scene   *scene
	seed    uint64

	mu        sync.Mutex
	turn      int
	acks      []judge.Ack
	requested map[string]int
	refused   map[string]int // answers other than 2xx, and lost ones, by status
	open      int            // requests not answered with 2xx yet
	wg        sync.WaitGroup
}

func newLoad(h *house, s *scene, seed uint64) *load {
	l := &load{scene: s, seed: seed, requested: map[string]int{}, refused: map[string]int{}}
	for _, m := range h.apis {
		l.clients = append(l.clients, m.client)
	}
	return l
}

// run makes requests until running ends. What is not acknowledged then is tried on
// until ctx ends.
func (l *load) run(ctx, running context.Context) {
	each := func(d time.Duration, do func(n int)) {
		l.wg.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-running.Done():
					return
				case <-tick.C:
					l.wg.Go(func() { do(n) })
				}
			}
		})
	}
	each(runEach, func(n int) { l.runGroup(ctx, n) })
	each(fireEach, func(n int) { l.fire(ctx, n) })
	each(skipEach, func(n int) { l.skip(ctx, n) })
	each(longEach, func(n int) { l.long(ctx, n) })
	each(editEach, func(n int) { l.edit(ctx, n) })
}

// settle waits until every request is answered, or ctx ends.
func (l *load) settle(ctx context.Context) error {
	ended := make(chan struct{})
	go func() { l.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Errorf("%d requests are still not acknowledged", l.open)
	}
}

func (l *load) runGroup(ctx context.Context, n int) {
	ack, ok := l.start(ctx, judge.Run, l.scene.groups[n%len(l.scene.groups)], n)
	if ok && rand.IntN(cancelOne) == 0 {
		wait(ctx, rand.N(time.Second))
		l.cancel(ctx, ack.Runs[0])
	}
}

// skip asks for a run unless one of the group goes on. What was decided then is to
// hold when the same request comes again after that one has ended.
func (l *load) skip(ctx context.Context, n int) {
	l.start(ctx, judge.Skip, l.scene.skipping, n)
}

// long starts a run that would last, and cancels it while it works.
func (l *load) long(ctx context.Context, n int) {
	if ack, ok := l.start(ctx, judge.Run, l.scene.long, n); ok {
		wait(ctx, time.Second+rand.N(time.Second))
		l.cancel(ctx, ack.Runs[0])
	}
}

func (l *load) start(ctx context.Context, verb judge.Verb, group string, n int) (judge.Ack, bool) {
	l.mu.Lock()
	l.requested[group]++
	l.mu.Unlock()
	o := client.RunOptions{Key: fmt.Sprintf("chaos-%d-%s-%d", l.seed, group[:8], n)}
	if verb == judge.Skip {
		o.Overlap.Policy = "skip"
	}
	return l.insist(ctx, judge.Ack{Verb: verb, Key: o.Key}, func(ctx context.Context, c *client.Client) ([]string, error) {
		r, err := c.RunGroup(ctx, group, o)
		if verb == judge.Skip && client.IsStatus(err, http.StatusConflict) {
			return []string{}, nil
		}
		return []string{r.ID}, err
	})
}

func (l *load) fire(ctx context.Context, n int) {
	key := fmt.Sprintf("chaos-%d-fire-%d", l.seed, n)
	l.insist(ctx, judge.Ack{Verb: judge.Fire, Key: key}, func(ctx context.Context, c *client.Client) ([]string, error) {
		e, err := c.Fire(ctx, l.scene.byHand.trigger.UUID, key)
		return e.Runs, err
	})
}

// edit spells a schedule otherwise: a new revision with the same slots.
func (l *load) edit(ctx context.Context, n int) {
	q := l.scene.triggers[n%len(l.scene.triggers)]
	spelling := q.spellings[(n/len(l.scene.triggers)+1)%2]
	l.insist(ctx, judge.Ack{Verb: judge.Edit, Key: q.trigger.UUID}, func(ctx context.Context, c *client.Client) ([]string, error) {
		_, err := c.PatchTrigger(ctx, q.trigger.UUID, 0, map[string]any{"schedule": quartz(spelling)})
		return nil, err
	})
}

// cancel asks for the end of a run. One that has ended already is left as it is.
func (l *load) cancel(ctx context.Context, run string) {
	l.insist(ctx, judge.Ack{Verb: judge.Cancel, Key: run}, func(ctx context.Context, c *client.Client) ([]string, error) {
		r, err := c.CancelRun(ctx, run, "chaos")
		if client.IsStatus(err, http.StatusConflict) {
			return nil, nil
		}
		return []string{r.ID}, err
	})
}

// insist sends a request until it is acknowledged, and now and then once more,
// some seconds after.
func (l *load) insist(ctx context.Context, ack judge.Ack, send func(context.Context, *client.Client) ([]string, error)) (judge.Ack, bool) {
	l.count(1)
	for pause := retryFirst; ; pause = min(2*pause, retryLast) {
		runs, err := send(ctx, l.next())
		if err == nil {
			ack.Runs, ack.At = runs, time.Now()
			break
		}
		l.refuse(err)
		wait(ctx, pause)
		if ctx.Err() != nil {
			return ack, false
		}
	}
	l.count(-1)
	if !repeated(ack.Verb) {
		l.keep(ack)
		return ack, true
	}
	l.wg.Go(func() {
		again := ack
		wait(ctx, repeatFirst+rand.N(repeatLast-repeatFirst))
		if runs, err := send(ctx, l.next()); err == nil {
			again.Again = runs
		}
		l.keep(again)
	})
	return ack, true
}

// repeated decides whether a request is sent once more: a skip always, since what
// held it back has ended then.
func repeated(v judge.Verb) bool {
	switch v {
	case judge.Skip:
		return true
	case judge.Run, judge.Fire:
		return rand.IntN(repeatOne) == 0
	}
	return false
}

func (l *load) keep(ack judge.Ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks = append(l.acks, ack)
}

func (l *load) count(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += n
}

// next gives the client whose turn it is.
func (l *load) next() *client.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	return l.clients[l.turn%len(l.clients)]
}

func (l *load) refuse(err error) {
	what := "no answer"
	if p := (*client.Problem)(nil); errors.As(err, &p) {
		what = fmt.Sprintf("%d %s", p.Status, http.StatusText(p.Status))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[what]++
}
