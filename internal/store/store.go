// Package store keeps Takt's state in Redis. It is the only place that knows
// keys and Lua scripts.
//
// State is cut into P partitions. All rows of a target (its definition, runs,
// steps, timers, outbox) carry the hash tag {p:N}, where N comes from the
// target's uuid; a trigger, its next slot and its ledger carry {t:N}. Every
// transition is one script on one partition that compares before it sets, so
// any number of processes may try the same repair. What a script owes to another
// key it writes into its partition's outbox; see Effects and Outbox.
//
// What is compared is judged by Redis TIME, in Unix milliseconds, never by a
// process's clock.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/redisconn"
)

// Options are the settings of a Store. The zero value is usable.
type Options struct {
	Partitions    int           // fixed at first start; 0 = 16
	RunRetention  time.Duration // of ended runs; 0 = 7 days
	LedgerEntries int           // per trigger; 0 = 10,000
	LedgerAge     time.Duration // 0 = 7 days
	Backlog       int           // dispatches and parked steps of a partition; 0 = 10,000
}

// A Store is safe for concurrent use.
type Store struct {
	rdb   redis.UniversalClient
	fold  *redisconn.Fold // group commit of admissions and Begins
	ends  *redisconn.Fold // group commit of Finishes, which need not wait for those
	looks *redisconn.Fold // readings of counters of edits, nor need these
	opts  Options
	plans planMemory
	names planNames
	drawn blueprints

	outlines outlines
	tallied  tallyMemory
}

// New makes a Store on a client that the caller closes.
func New(rdb redis.UniversalClient, opts Options) *Store {
	if opts.Partitions == 0 {
		opts.Partitions = 16
	}
	if opts.RunRetention == 0 {
		opts.RunRetention = 7 * 24 * time.Hour
	}
	if opts.LedgerEntries == 0 {
		opts.LedgerEntries = 10_000
	}
	if opts.LedgerAge == 0 {
		opts.LedgerAge = 7 * 24 * time.Hour
	}
	if opts.Backlog == 0 {
		opts.Backlog = 10_000
	}
	return &Store{rdb: rdb, fold: redisconn.NewFold(rdb), ends: redisconn.NewFold(rdb), looks: redisconn.NewFold(rdb), opts: opts}
}

// Open is New plus the check that this Redis was set up with the same number of
// partitions; the first api process to come fixes it. With 0 partitions the number
// that is there is taken; NotFound when there is none yet.
func Open(ctx context.Context, rdb redis.UniversalClient, opts Options) (*Store, error) {
	const key = "takt:partitions"
	if opts.Partitions > 0 {
		if err := rdb.SetNX(ctx, key, opts.Partitions, 0).Err(); err != nil {
			return nil, unavailable("read the number of partitions", err)
		}
	}
	n, err := rdb.Get(ctx, key).Int()
	if isNil(err) {
		return nil, core.Errorf(core.NotFound, "no api process has set this Redis up yet")
	}
	if err != nil {
		return nil, unavailable("read the number of partitions", err)
	}
	if opts.Partitions == 0 {
		opts.Partitions = n
	}
	s := New(rdb, opts)
	if n != s.opts.Partitions {
		return nil, core.Errorf(core.Invalid, "this Redis holds %d partitions but the configuration says %d; partitions cannot be changed after the first start, set them to %d", n, s.opts.Partitions, n)
	}
	return s, nil
}

// Partitions is the number of partitions, of targets as of triggers.
func (s *Store) Partitions() int { return s.opts.Partitions }

// Now gives Redis TIME.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	t, err := s.rdb.Time(ctx).Result()
	return t, unavailable("read the time", err)
}

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	return unavailable("reach Redis", s.rdb.Ping(ctx).Err())
}

func root(n int) string        { return "takt:{p:" + strconv.Itoa(n) + "}" }
func triggerRoot(n int) string { return "takt:{t:" + strconv.Itoa(n) + "}" }

func (s *Store) home(target string) string {
	return root(id.Partition(target, s.opts.Partitions))
}

func (s *Store) triggerHome(trigger string) string {
	return triggerRoot(id.Partition(trigger, s.opts.Partitions))
}

// runHome gives the root of the partition that a run's id names.
func (s *Store) runHome(run string) (string, bool) {
	n, ok := id.RunPartition(run)
	return root(n), ok && n < s.opts.Partitions
}

// NewRunID makes an id in the partition of a target. Equal seeds and times give
// equal ids.
func (s *Store) NewRunID(target string, at time.Time, seed string) string {
	return id.DerivedRun(at, id.Partition(target, s.opts.Partitions), seed)
}

// unavailable gives a Redis failure its kind; nil and core errors pass.
func unavailable(doing string, err error) error {
	var known *core.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	}
	var reply redis.Error
	if errors.As(err, &reply) && !slices.ContainsFunc(passing, func(p string) bool { return redis.HasErrorPrefix(err, p) }) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return core.Wrap(core.Unavailable, err, "the store cannot take the request now; try again shortly")
}

// passing are the replies of a Redis that cannot take a command now, but may later:
// it starts, fails over, is full or busy.
var passing = []string{"LOADING", "READONLY", "MISCONF", "OOM", "CLUSTERDOWN", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN", "BUSY"}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// millisFrom is the first whole millisecond that is not before t. As a bound of what
// is stored, which is whole milliseconds, it parts the same as t does.
func millisFrom(t time.Time) int64 { return millis(t.Add(time.Millisecond - 1)) }

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
