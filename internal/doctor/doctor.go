// Package doctor looks at a whole deployment and says of each thing it looked at
// whether it is as it should be, and if not, what to do.
//
//	Redis      settings, room, persistence, replicas, clock, scripts
//	NATS       connection, fire stream, its consumer, backlog
//	Processes  who is alive and who vanished, whose clock, version or time zone differs,
//	           who holds which shards
//	Work       what waits for longer than its repair takes
//	Records    their format, marks that nothing stands behind, and how much is kept
//
// It reads and never writes, but for scripts, which it has Redis compile. What it
// reads is bounded: it walks from known sets to what they name, in samples, and
// says where it stopped. Things move while it looks, so what could be a moment's
// state is looked at again before it is told.
//
// `takt doctor` calls it. It judges; reading is done by packages redisconn,
// events, queue and store.
package doctor

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/redisconn"
)

// Place is the part of a deployment that a Finding is about.
type Place string

// Places, in the order of a Report.
const (
	Redis     Place = "redis"
	NATS      Place = "nats"
	Processes Place = "processes"
	Work      Place = "work"
	Records   Place = "records"
)

// A Finding is the outcome of one check.
type Finding struct {
	Place    Place              `json:"place"`
	Check    string             `json:"check"`
	Severity redisconn.Severity `json:"severity"`
	Text     string             `json:"text"`
	Do       string             `json:"do,omitempty"` // "" for ok
}

// RecordReader reads what stands in Redis; *store.Store.
type RecordReader interface {
	Partitions() int
	Now(ctx context.Context) (time.Time, error)
	LoadScripts(ctx context.Context) (int, error)
	Format(ctx context.Context) (int, error)
	Cards(ctx context.Context) ([]core.Card, error)
	Fleet(ctx context.Context) (core.Fleet, error)
	Leases(ctx context.Context, role string, shards int) (core.LeaseTable, error)
	Census(ctx context.Context, partition int, now time.Time) (core.Census, error)
	TriggerCensus(ctx context.Context, partition int, now time.Time) (core.TriggerCensus, error)
	LateQueues(ctx context.Context, partition int, now time.Time) (map[string]int, error)
	Live(ctx context.Context, partition int) ([]core.Under, error)
	Orphans(ctx context.Context, partition int) (core.Orphans, error)
}

// QueueReader counts what the queues hold; *queue.Client.
type QueueReader interface {
	Queues(ctx context.Context) ([]core.QueueState, error)
}

// StreamReader says how NATS is; *events.Bus.
type StreamReader interface {
	Connected() bool
	// Refused reports whether the reason for no connection is that NATS does not let us in.
	Refused() bool
	State(ctx context.Context) (events.State, error)
}

// Sources are what a deployment is read from. Records and Queues are nil when
// Redis is away or was never set up.
type Sources struct {
	Redis   func(ctx context.Context) []redisconn.Finding
	Records RecordReader
	Queues  QueueReader
	Stream  StreamReader
}

// A chart gathers the findings of one examination.
type chart struct {
	Sources
	findings []Finding
	full     bool // Redis refuses writes, so who lives cannot say so
}

// Examine looks at everything and gives the findings by place. It takes under a
// second where all is well, and up to twenty where much is suspected and looked at
// again.
func Examine(ctx context.Context, s Sources) Report {
	c := &chart{Sources: s}
	for _, f := range s.Redis(ctx) {
		c.add(Redis, f.Check, f.Severity, f.Text, f.Do)
		c.full = c.full || f.Check == "room" && f.Severity == redisconn.Problem
	}
	if s.Records == nil {
		c.stream(ctx)
		return report(c.findings)
	}
	c.scripts(ctx)
	c.stream(ctx)
	now, err := s.Records.Now(ctx)
	if err != nil {
		c.unread(Records, "records", err)
		return report(c.findings)
	}
	fleet, err := s.Records.Fleet(ctx)
	if err != nil {
		c.unread(Processes, "workers", err)
		return report(c.findings)
	}
	c.format(ctx)
	c.shards(ctx, "partitions", "api", "nothing late, lost or timed out is acted on")
	c.shards(ctx, "triggers", "trigger", "no trigger fires")
	t := c.countAll(ctx, now, fleet)
	c.workers(t, fleet)
	c.processes(ctx, now, fleet)
	if t != nil {
		c.work(ctx, t, now, fleet)
	}
	c.orphans(ctx)
	return report(c.findings)
}

func (c *chart) add(place Place, check string, severity redisconn.Severity, text, do string) {
	c.findings = append(c.findings, Finding{place, check, severity, text, do})
}

func (c *chart) ok(place Place, check, text string) { c.add(place, check, redisconn.OK, text, "") }

func (c *chart) warn(place Place, check, text, do string) {
	c.add(place, check, redisconn.Warning, text, do)
}

func (c *chart) problem(place Place, check, text, do string) {
	c.add(place, check, redisconn.Problem, text, do)
}

// sign tells that somebody gives no sign of life. Signs are writes, which a full Redis
// refuses: then that is to be mended first.
func (c *chart) sign(severity redisconn.Severity, check, text, do string) {
	if c.full {
		text += " (may follow from Redis being full)"
		do = "make room in Redis first, which may be all that is wrong; else " + do
	}
	c.add(Processes, check, severity, text, do)
}

// unread tells that something could not be looked at.
func (c *chart) unread(place Place, check string, err error) {
	c.problem(place, check, "cannot be read: "+err.Error(), "see whether Redis answers, and what this user may do there")
}

// scripts has Redis compile all of Takt's scripts.
func (c *chart) scripts(ctx context.Context) {
	n, err := c.Records.LoadScripts(ctx)
	if err != nil {
		c.problem(Redis, "own scripts", err.Error(), "use redis (or valkey) 6.2 or later, and allow this user SCRIPT LOAD")
		return
	}
	c.ok(Redis, "own scripts", plural(n, "script compiles", "scripts compile"))
}

// again calls look, at once and then each pause, until it is content or a time
// that every take-over needs has passed.
func again(ctx context.Context, look func() (content bool)) {
	const pause, enough = 500 * time.Millisecond, 6 * time.Second
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for end := time.Now().Add(enough); !look() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
