package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// The fleet lies under one tag: workers by id, their last heartbeats, what they
// hold, and every job type and resource that was ever announced.
const fleetRoot = "takt:{w}"

// LiveFor is how long a worker counts as alive after a heartbeat.
const LiveFor = 5 * time.Second

type load struct {
	Taken    []string `json:"taken,omitempty"`
	Running  []string `json:"running,omitempty"`
	Draining bool     `json:"draining,omitempty"`
	// Progress of running dispatches: done and total.
	Progress map[string][2]int64 `json:"progress,omitempty"`
}

func loadOf(h core.Heartbeat) load {
	l := load{Taken: h.Taken, Running: h.Running, Draining: h.Draining}
	for d, p := range h.Progress {
		if l.Progress == nil {
			l.Progress = make(map[string][2]int64, len(h.Progress))
		}
		l.Progress[d] = [2]int64{p.Done, p.Total}
	}
	return l
}

func (l load) heartbeat(worker string) core.Heartbeat {
	h := core.Heartbeat{Worker: worker, Taken: l.Taken, Running: l.Running, Draining: l.Draining}
	for d, p := range l.Progress {
		if h.Progress == nil {
			h.Progress = make(map[string]core.Progress, len(l.Progress))
		}
		h.Progress[d] = core.Progress{Done: p[0], Total: p[1]}
	}
	return h
}

// Beat takes a heartbeat. announce is nil when nothing has changed since the last
// one. It returns the dispatches to stop; a NotFound error asks for an
// announcement.
func (s *Store) Beat(ctx context.Context, h core.Heartbeat, announce *core.Worker) ([]string, error) {
	held, err := json.Marshal(loadOf(h))
	if err != nil {
		return nil, fmt.Errorf("encode heartbeat: %w", err)
	}
	args := []any{h.Worker, "", string(held), 0}
	if announce != nil {
		if args, err = announcement(h.Worker, held, *announce); err != nil {
			return nil, err
		}
	}
	r, err := s.call(ctx, beatScript, fleetRoot, args...)
	if err != nil {
		return nil, unavailable("send heartbeat", err)
	}
	if reply(r).text(0) == "unknown" {
		return nil, core.Missing("worker", h.Worker)
	}
	return reply(r).list(1), nil
}

func announcement(worker string, held []byte, w core.Worker) ([]any, error) {
	info, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode worker: %w", err)
	}
	args := []any{worker, string(info), string(held), len(w.Types)}
	for _, t := range w.Types {
		spec, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("encode job type: %w", err)
		}
		args = append(args, t.Type, string(spec))
	}
	for _, r := range w.Resources {
		args = append(args, r)
	}
	return args, nil
}

// Fleet reads the workers, their loads and what was ever announced.
func (s *Store) Fleet(ctx context.Context) (core.Fleet, error) {
	pipe := s.rdb.Pipeline()
	now := pipe.Time(ctx)
	workers := pipe.HGetAll(ctx, fleetRoot+":workers")
	beats := pipe.ZRangeWithScores(ctx, fleetRoot+":beat", 0, -1)
	loads := pipe.HGetAll(ctx, fleetRoot+":load")
	types := pipe.HGetAll(ctx, fleetRoot+":types")
	resources := pipe.HGetAll(ctx, fleetRoot+":resources")
	if _, err := pipe.Exec(ctx); err != nil {
		return core.Fleet{}, unavailable("read workers", err)
	}
	f := core.Fleet{
		Now: now.Val(), Workers: map[string]core.Worker{}, Held: map[string]core.Heartbeat{},
		Types: map[string]executor.Spec{}, Resources: map[string]time.Time{},
	}
	for _, z := range beats.Val() {
		if err := addWorker(&f, z, workers.Val(), loads.Val()); err != nil {
			return f, err
		}
	}
	for name, text := range types.Val() {
		var spec executor.Spec
		if err := json.Unmarshal([]byte(text), &spec); err != nil {
			return f, fmt.Errorf("read job type %s: %w", name, err)
		}
		f.Types[name] = spec
	}
	for uuid, ms := range resources.Val() {
		n, _ := strconv.ParseInt(ms, 10, 64)
		f.Resources[uuid] = fromMillis(n)
	}
	return f, nil
}

func addWorker(f *core.Fleet, z redis.Z, workers, loads map[string]string) error {
	id, _ := z.Member.(string)
	text, ok := workers[id]
	if !ok {
		return nil
	}
	var w core.Worker
	var l load
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return fmt.Errorf("read worker %s: %w", id, err)
	}
	// It may leave between the two readings.
	if text := loads[id]; text != "" {
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return fmt.Errorf("read load of worker %s: %w", id, err)
		}
	}
	w.Seen = fromMillis(int64(z.Score))
	w.Live = f.Now.Sub(w.Seen) < LiveFor
	w.Draining, w.Busy = l.Draining, len(l.Running)
	f.Workers[id] = w
	f.Held[id] = l.heartbeat(id)
	return nil
}

// Leave removes a worker that has stopped in good order.
func (s *Store) Leave(ctx context.Context, worker string) error {
	_, err := s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZRem(ctx, fleetRoot+":beat", worker)
		pipe.HDel(ctx, fleetRoot+":load", worker)
		pipe.HDel(ctx, fleetRoot+":workers", worker)
		return nil
	})
	return unavailable("leave the fleet", err)
}

// ForgetWorkers removes workers without a heartbeat since the given instant. The
// job types and resources they announced stay known.
func (s *Store) ForgetWorkers(ctx context.Context, before time.Time) error {
	ids, err := s.rdb.ZRangeByScore(ctx, fleetRoot+":beat", &redis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(before.UnixMilli(), 10)}).Result()
	if err != nil {
		return unavailable("read heartbeats", err)
	}
	sort.Strings(ids)
	for _, id := range ids {
		if err := s.Leave(ctx, id); err != nil {
			return err
		}
	}
	return s.ForgetCards(ctx, before)
}

// Lease says that a member of a role is alive and gives the shards it holds from
// now on for ttl, with the generation of each. A ttl of 0 leaves the role and
// gives everything back.
func (s *Store) Lease(ctx context.Context, role, member string, shards int, ttl time.Duration) (map[int]int64, error) {
	pairs, err := leaseScript.Run(ctx, s.rdb, []string{"takt:{l:" + role + "}"}, member, ttl.Milliseconds(), shards).Int64Slice()
	if err != nil {
		return nil, unavailable("lease shards of "+role, err)
	}
	held := make(map[int]int64, len(pairs)/2)
	for k := 0; k+1 < len(pairs); k += 2 {
		held[int(pairs[k])] = pairs[k+1]
	}
	return held, nil
}
