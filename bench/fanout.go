package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/raw"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// The throughput of group runs. Takt: api, worker and background roles in this
// process, redis-server and NATS as children. Each run of 100 jobs is asked for by
// a POST with a session, and everything follows from it: admission, dispatch, ring,
// begin, execution, finish, end. Raw asynq: the same number of tasks with the same
// payload size, in the same process, on the same kind of Redis.
//
// Runs of 16 groups, so that they lie in several partitions, are kept under way as
// long as there are any to start; the time ends when the last run has ended.

const (
	fanoutJobs   = 100 // of a group
	fanoutGroups = 16
	fanoutWindow = 48 // runs under way at a time
	fanoutTime   = 5 * time.Second
	scriptRuns   = 32 // to see what each script costs
	submitters   = 8

	// payload is the length of a dispatch's id, which is all that a message holds.
	payload = 32 + 1 + 2 + 1 + 1 + 1 + 16
)

func fanout(ctx context.Context, e env) ([]result, error) {
	return throughput(ctx, e, "everysec", 50_000, []target{{atLeast(0.9), atLeast(1.5)}, {within(45), within(25)}, {within(55), within(25)}})
}

func fanoutAlways(ctx context.Context, e env) ([]result, error) {
	return throughput(ctx, e, "always", 25_000, []target{{atLeast(1.0), atLeast(2)}, {}, {}})
}

type target struct{ bar, aim *limit }

// throughput measures raw asynq with so many tasks, and Takt for as long as
// fanoutTime, in turn.
func throughput(ctx context.Context, e env, fsync string, rawTasks int, targets []target) ([]result, error) {
	rawTasks = e.size(rawTasks, 20*fanoutJobs)
	var taktRate, rawRate, redisCPU, goCPU, natsCPU, rawRedis, rawGo, busy, rawBusy, others []float64
	var last taktFigures
	for round := range e.rounds {
		took, u, err := rawRound(ctx, e, fsync, rawTasks)
		if err != nil {
			return nil, fmt.Errorf("raw asynq: %w", err)
		}
		tasks := float64(rawTasks)
		rawRate = append(rawRate, tasks/took.Seconds())
		rawRedis, rawGo = append(rawRedis, micro(u.Redis)/tasks), append(rawGo, micro(u.Go)/tasks)
		rawBusy = append(rawBusy, busyCores(u, took))
		e.tell("raw asynq: %s jobs/s, %s cores busy", number(tasks/took.Seconds()), number(rawBusy[round]))

		if last, err = taktRound(ctx, e, fsync, round); err != nil {
			return nil, fmt.Errorf("takt: %w", err)
		}
		taktRate = append(taktRate, last.jobs/last.took.Seconds())
		redisCPU, goCPU = append(redisCPU, micro(last.used.Redis)/last.jobs), append(goCPU, micro(last.used.Go)/last.jobs)
		natsCPU = append(natsCPU, micro(last.used.NATS)/last.jobs)
		busy = append(busy, busyCores(last.used, last.took))
		others = append(others, max(u.Others().Seconds()/took.Seconds(), last.used.Others().Seconds()/last.took.Seconds()))
		e.tell("takt:      %s jobs/s, %s cores busy, CPU per job: Redis %s, Go %s, NATS %s µs", number(taktRate[round]), number(busy[round]),
			number(redisCPU[round]), number(goCPU[round]), number(natsCPU[round]))
	}
	results := []result{
		{
			Measure: "group runs of 100 no-op jobs, appendfsync " + fsync + " ÷ raw asynq", Values: stat.Ratios(taktRate, rawRate),
			Bar: targets[0].bar, Aim: targets[0].aim,
			Notes: []note{{"Takt", "jobs/s", taktRate}, {"raw asynq, 4 servers", "jobs/s", rawRate}, {"NATS CPU per job", "µs", natsCPU},
				{"busy in Takt's part", "cores", busy}, {"busy in raw asynq's", "cores", rawBusy}, {"used by others meanwhile", "cores", others}},
		},
		{Measure: "Redis CPU per job", Unit: "µs", Values: redisCPU, Bar: targets[1].bar, Aim: targets[1].aim, Notes: []note{{"raw asynq", "µs", rawRedis}}},
		{Measure: "Go CPU per job (client, api and worker)", Unit: "µs", Values: goCPU, Bar: targets[2].bar, Aim: targets[2].aim, Notes: []note{{"raw asynq", "µs", rawGo}}},
	}
	if slices.Max(others) > 0.15 {
		results[0].Remarks = append(results[0].Remarks, "OTHER PROCESSES WORKED ON THIS MACHINE MEANWHILE: measure again")
	}
	results[0].Remarks = append(append(results[0].Remarks, commandTable(last.used, last.jobs, "job")...), scriptTable(last.scripts, scriptRuns*fanoutJobs)...)
	if fsync == "everysec" {
		results[0].Remarks = append(results[0].Remarks, "elsewhere measured, on two such cores: River tuned 32.6 k, BullMQ flows 15.4 k, Celery chord 0.5 k, Temporal 0.6 k jobs/s")
	}
	return results, nil
}

// busyCores is how many cores were used: what is missing to all of them was spent
// waiting.
func busyCores(u house.Usage, took time.Duration) float64 {
	return (u.Go + u.Redis + u.NATS).Seconds() / took.Seconds()
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// commandTable shows the ten commands that cost Redis most, per job or request.
func commandTable(u house.Usage, count float64, of string) []string {
	names := slices.SortedFunc(maps.Keys(u.Commands), func(a, b string) int {
		return int(u.Commands[b].Micro - u.Commands[a].Micro)
	})
	calls := 0.0
	for _, c := range u.Commands {
		calls += c.Calls
	}
	out := []string{fmt.Sprintf("Redis per %s: %.2f commands (those within scripts included), %.3f reads from sockets", of, calls/count, u.Reads/count)}
	for _, name := range names[:min(10, len(names))] {
		c := u.Commands[name]
		out = append(out, fmt.Sprintf("  %-12s %6.3f calls %7.2f µs", name, c.Calls/count, c.Micro/count))
	}
	return out
}

// scriptTable shows what each script costs Redis, per job.
func scriptTable(scripts []house.Script, jobs float64) []string {
	out := []string{"scripts per job, while the slow log takes all (a call may serve several jobs)"}
	for _, s := range scripts[:min(12, len(scripts))] {
		out = append(out, fmt.Sprintf("  %-50s %6.3f calls %7.2f µs", s.Name, float64(s.Calls)/jobs, micro(s.Took)/jobs))
	}
	return out
}

func rawRound(ctx context.Context, e env, fsync string, tasks int) (time.Duration, house.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "takt-bench-")
	if err != nil {
		return 0, house.Usage{}, err
	}
	defer os.RemoveAll(dir)
	r, err := house.StartRedis(ctx, filepath.Join(dir, "redis"), fsync)
	if err != nil {
		return 0, house.Usage{}, err
	}
	defer r.Stop()
	conn, err := asynq.ParseRedisURI(r.URL)
	if err != nil {
		return 0, house.Usage{}, err
	}
	before, err := r.Usage(ctx)
	if err != nil {
		return 0, house.Usage{}, err
	}
	took, err := raw.Run(ctx, raw.Options{Redis: conn, Servers: e.deq, Slots: e.slots, Tasks: tasks, Payload: payload})
	if err != nil {
		return 0, house.Usage{}, err
	}
	after, err := r.Usage(ctx)
	return took, after.Sub(before), err
}

// taktFigures are what one round found.
type taktFigures struct {
	jobs    float64
	took    time.Duration
	used    house.Usage
	scripts []house.Script // of the last round
}

func taktRound(ctx context.Context, e env, fsync string, round int) (f taktFigures, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var executed atomic.Int64
	h, err := house.Open(ctx, house.Options{Fsync: fsync, Slots: e.slots, Dequeuers: e.deq, Types: []executor.Type{noop(&executed)}})
	if err != nil {
		return f, err
	}
	defer h.Close()
	groups, err := makeGroups(ctx, h, fanoutGroups, fanoutJobs)
	if err != nil {
		return f, err
	}
	// Scripts, connections and plans are there before the time starts, as they are
	// in a system at work. The second part tells how many runs fill the time.
	if _, err := drive(ctx, h, groups, len(groups)); err != nil {
		return f, err
	}
	warm, err := drive(ctx, h, groups, fanoutWindow)
	if err != nil {
		return f, err
	}
	runs := int(float64(fanoutWindow) * fanoutTime.Seconds() / warm.Seconds())
	runs = e.size(max(runs, 2*fanoutWindow)*fanoutJobs, 20*fanoutJobs) / fanoutJobs
	f.jobs = float64(runs * fanoutJobs)
	executed.Store(0)
	stop, err := e.profiled(round)
	if err != nil {
		return f, err
	}
	before, err := h.Usage(ctx)
	if err == nil {
		f.took, err = drive(ctx, h, groups, runs)
	}
	stop()
	if err != nil {
		return f, err
	}
	after, err := h.Usage(ctx)
	if err != nil {
		return f, err
	}
	f.used = after.Sub(before)
	if n := executed.Load(); n != int64(f.jobs) {
		e.tell("note: %d executions for %s jobs", n, number(f.jobs))
	}
	if n, first := h.Warnings(); n > 0 {
		e.tell("note: %d warnings, the first: %s", n, first)
	}
	if round == e.rounds-1 {
		f.scripts, err = h.Redis.Scripts(ctx, func() error {
			_, err := drive(ctx, h, groups, scriptRuns)
			return err
		})
	}
	return f, err
}

// drive starts runs, at most fanoutWindow under way at a time, and returns how
// long it took until all had ended as succeeded.
func drive(ctx context.Context, h *house.House, groups []string, runs int) (time.Duration, error) {
	start, err := ended(ctx, h)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := make(chan struct{}, runs)
	for range min(fanoutWindow, runs) {
		room <- struct{}{}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range submitters {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= runs {
					return
				}
				select {
				case <-room:
				case <-ctx.Done():
					return
				}
				if _, err := h.Client.RunGroup(ctx, groups[i%len(groups)], client.RunOptions{}); err != nil {
					cancel(fmt.Errorf("start run %d: %w", i, err))
					return
				}
			}
		})
	}
	done := 0
	err = house.Await(ctx, 5*time.Millisecond, 2*time.Minute, func() (bool, error) {
		now, err := ended(ctx, h)
		if err != nil {
			return false, err
		}
		for ; done < now.all()-start.all(); done++ {
			if fanoutWindow+done < runs {
				room <- struct{}{}
			}
		}
		return done >= runs, nil
	})
	took := time.Since(began)
	cancel(nil)
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return 0, cause
	}
	if err != nil {
		return 0, fmt.Errorf("%d of %d runs ended: %w", done, runs, err)
	}
	now, err := ended(context.WithoutCancel(ctx), h)
	if err == nil && now.succeeded-start.succeeded != runs {
		err = fmt.Errorf("%d of %d runs succeeded", now.succeeded-start.succeeded, runs)
	}
	return took, err
}

// endings are how many runs have ended in the whole installation.
type endings struct{ succeeded, others int }

func (e endings) all() int { return e.succeeded + e.others }

// ended reads the counters that the store keeps at transitions, of all partitions
// in one round trip.
func ended(ctx context.Context, h *house.House) (endings, error) {
	pipe := h.Redis.Client.Pipeline()
	var rows []*redis.SliceCmd
	for n := range 16 {
		rows = append(rows, pipe.HMGet(ctx, fmt.Sprintf("takt:{p:%d}:count", n), "run.s", "run.f", "run.x", "run.t"))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return endings{}, fmt.Errorf("read the counters of runs: %w", err)
	}
	var out endings
	for _, r := range rows {
		var c struct {
			S int `redis:"run.s"`
			F int `redis:"run.f"`
			X int `redis:"run.x"`
			T int `redis:"run.t"`
		}
		if err := r.Scan(&c); err != nil {
			return out, err
		}
		out.succeeded += c.S
		out.others += c.F + c.X + c.T
	}
	return out, nil
}
