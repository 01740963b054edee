package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/chaos/faultproxy"
	"github.com/takt-dev/takt/internal/chaos/judge"
	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/internal/chaos/witness"
)

// A striker carries out a plan and keeps what was done.
type striker struct {
	house *house
	out   io.Writer

	mu   sync.Mutex
	done []judge.Fault
	errs []error
}

// carryOut strikes each fault at its time, counted from begin, and returns when
// all are healed.
func (s *striker) carryOut(ctx context.Context, begin time.Time, faults []plan.Fault) error {
	var wg sync.WaitGroup
	for _, f := range faults {
		wg.Go(func() {
			wait(ctx, time.Until(begin.Add(f.At)))
			if ctx.Err() == nil {
				s.strike(ctx, f)
			}
		})
	}
	wg.Wait()
	return errors.Join(s.errs...)
}

// strike does one fault and heals it, also when ctx ends meanwhile.
func (s *striker) strike(ctx context.Context, f plan.Fault) {
	if f.Kind.LosesWorker() {
		s.house.awaitWork(ctx, f.Victim)
	}
	fmt.Fprintf(s.out, "  %s\n", f)
	done := judge.Fault{Kind: f.Kind, Began: time.Now()}
	if f.Kind.LosesWorker() || f.Kind == plan.HoleNATS || f.Kind == plan.ResetNATS {
		done.Host = s.house.workers[f.Victim].name
	}
	heal, err := s.house.strike(f)
	if err == nil {
		wait(ctx, f.For)
		healing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = heal(healing)
	}
	done.Ended = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, done)
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", f.Kind, err))
	}
}

// awaitWork waits for a worker to be at work, though not for ever: what happens to an
// idle one proves nothing.
func (h *house) awaitWork(ctx context.Context, worker int) {
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until) && ctx.Err() == nil; wait(ctx, 100*time.Millisecond) {
		if busy, err := witness.AtWork(h.witness(), h.workers[worker].name); err != nil || busy {
			return
		}
	}
}

type healer func(context.Context) error

// strike does a fault and gives what heals it.
func (h *house) strike(f plan.Fault) (healer, error) {
	switch f.Kind {
	case plan.KillAPI:
		return killed(h.apis[f.Victim].program), nil
	case plan.KillWorker:
		return killed(h.workers[f.Victim].program), nil
	case plan.KillTrigger:
		return killed(h.triggers[f.Victim].program), nil
	case plan.KillNATS:
		return killed(h.nats.program), nil
	case plan.KillRedis:
		h.redis.kill()
		return h.redis.revive, nil
	case plan.StopWorker:
		return stopped(h.workers[f.Victim].program), nil
	case plan.PauseRedis, plan.PauseRedisLong:
		return stopped(h.redis.program), nil
	case plan.PurgeFires:
		return h.purgeFires(), nil
	case plan.HoleRedis:
		return cut(h.workers[f.Victim].redis, faultproxy.Hole), nil
	case plan.ResetRedis:
		return cut(h.workers[f.Victim].redis, faultproxy.Reset), nil
	case plan.HoleNATS:
		return cut(h.workers[f.Victim].nats, faultproxy.Hole), nil
	case plan.ResetNATS:
		return cut(h.workers[f.Victim].nats, faultproxy.Reset), nil
	case plan.ClockStep, plan.ClockStepLarge:
		file := h.triggers[f.Victim].clock
		return func(context.Context) error { return setClock(file, 0) }, setClock(file, f.Step)
	case plan.DiskFull:
		return h.fullDisk()
	}
	return nil, fmt.Errorf("nobody knows how to do %s", f.Kind)
}

func killed(p *program) healer {
	p.kill()
	return func(context.Context) error { return p.start() }
}

func stopped(p *program) healer {
	p.signal(syscall.SIGSTOP)
	return func(context.Context) error {
		p.signal(syscall.SIGCONT)
		return nil
	}
}

func cut(p *faultproxy.Proxy, how faultproxy.Cut) healer {
	p.Cut(how)
	return func(context.Context) error {
		p.Heal()
		return nil
	}
}

// purgeFires empties the stream when the fires of a second or two are in it: the
// api processes, which take each at once, stand still meanwhile.
func (h *house) purgeFires() healer {
	var heals []healer
	for _, m := range h.apis {
		heals = append(heals, stopped(m.program))
	}
	return func(ctx context.Context) error {
		err := h.nats.purge(ctx)
		for _, heal := range heals {
			err = errors.Join(err, heal(ctx))
		}
		return err
	}
}

// fullDisk takes Redis's room to write. Under appendfsync always Redis then ends
// itself rather than answer what it cannot keep: a supervisor would start it again,
// in vain until there is room.
func (h *house) fullDisk() (healer, error) {
	h.redis.unwant()
	if err := h.disk.fill(h.redis.id()); err != nil {
		return nil, err
	}
	trying, enough := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for trying.Err() == nil {
			if !h.redis.alive() {
				_ = h.redis.revive(trying) // until it ends once more, or the fault does
				h.redis.unwant()
			}
			wait(trying, 500*time.Millisecond)
		}
	}()
	return func(ctx context.Context) error {
		enough()
		<-ended
		if err := h.disk.free(h.redis.id()); err != nil {
			return err
		}
		return h.redis.revive(ctx)
	}, nil
}
