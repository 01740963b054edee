package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/takt-dev/takt/bench/house"
)

// `takt dev` as a process of its own, with its redis-server child: the time from
// its start until it has said that it is ready and answers /readyz, in an empty
// directory (server started, first account made) and again in the same one; then
// its CPU time at rest, without triggers. The table asks for 60 s; a third of that
// is measured in each round.
func dev(ctx context.Context, e env) ([]result, error) {
	var fresh, again, cpu, redis []float64
	for range e.rounds {
		dir, err := os.MkdirTemp("", "takt-bench-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		p, took, err := startDev(ctx, dir)
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, took.Seconds())
		p.Stop()
		if p, took, err = startDev(ctx, dir); err != nil {
			return nil, err
		}
		again = append(again, took.Seconds())
		share, ofRedis, err := idleShare(ctx, p, time.Duration(e.smokeOr(20, 2))*time.Second)
		p.Stop()
		if err != nil {
			return nil, err
		}
		cpu, redis = append(cpu, share), append(redis, ofRedis)
		e.tell("ready after %s s, again %s s; idle %s %% of a core", number(fresh[len(fresh)-1]), number(again[len(again)-1]), number(share))
	}
	return []result{
		{Measure: "takt dev with its Redis, idle: CPU", Unit: "% of a core", Values: cpu, Bar: within(3), Aim: within(1), Notes: []note{{"redis-server alone", "% of a core", redis}}},
		{
			Measure: "takt dev: start to ready, in an empty directory", Unit: "s", Values: fresh, Bar: within(2), Aim: within(0.5),
			Notes: []note{{"with what was there", "s", again}},
		},
	}, nil
}

func startDev(ctx context.Context, dir string) (*house.Process, time.Duration, error) {
	began := time.Now()
	p, url, err := house.SpawnDev(dir)
	if err != nil {
		return nil, 0, err
	}
	err = house.Await(ctx, time.Millisecond, 10*time.Second, func() (bool, error) {
		res, err := http.Get(url + "/readyz")
		if err != nil {
			return false, nil
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		p.Kill()
		return nil, 0, fmt.Errorf("takt dev at %s: %w", url, err)
	}
	return p, time.Since(began), nil
}

// idleShare is the CPU share of a process and its redis-server, and that of the
// latter alone, in percent of a core.
func idleShare(ctx context.Context, p *house.Process, window time.Duration) (all, redis float64, err error) {
	children, err := house.ChildrenOf(p.PID())
	if err != nil {
		return 0, 0, err
	}
	if len(children) != 1 {
		return 0, 0, fmt.Errorf("takt dev has %d children, want redis-server alone", len(children))
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	own, err := usedOver(ctx, window, p.PID(), children[0])
	if err != nil {
		return 0, 0, err
	}
	percent := 100 / float64(time.Since(began))
	return float64(own[0]+own[1]) * percent, float64(own[1]) * percent, nil
}

// usedOver is the CPU time that processes use in a while.
func usedOver(ctx context.Context, window time.Duration, pids ...int) ([]time.Duration, error) {
	out := make([]time.Duration, len(pids))
	add := func(sign time.Duration) error {
		for i, pid := range pids {
			used, err := house.PreciseCPUOf(pid)
			if err != nil {
				return err
			}
			out[i] += sign * used
		}
		return nil
	}
	if err := add(-1); err != nil {
		return nil, err
	}
	if err := pause(ctx, window); err != nil {
		return nil, err
	}
	return out, add(1)
}
