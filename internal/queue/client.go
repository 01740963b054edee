// Package queue carries dispatches over asynq. It is the only place that knows
// asynq's client, inspector and server.
//
// A message is the id of a dispatch and nothing else: what the step is to do
// stands in the store. The id is the asynq task's id too, so sending the same
// dispatch twice is one task. Losing a message, or finding it twice, is harmless:
// the reconciler finds the one and the fence stops the other. What of asynq is
// used, and what never, is in docs/decisions.
package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/redisconn"
)

// TaskType is the type of every task, as the dashboard shows it.
const TaskType = "takt:dispatch"

// beyond is how much longer than an attempt's own timeout asynq lets a task be:
// asynq must never be the one to end it.
const beyond = 90 * time.Second

// wave is how many dispatches travel at once.
const wave = 500

// A Client sends dispatches and looks into queues. It is safe for concurrent use.
type Client struct {
	rdb       redis.UniversalClient
	fold      *redisconn.Fold
	asynq     *asynq.Client
	proven    sync.Map // queues for which asynq's client was seen to encode as appendMessage does
	inspector *asynq.Inspector
}

// NewClient makes a Client on a Redis client that the caller closes.
func NewClient(rdb redis.UniversalClient) *Client {
	rdb.AddHook(redisconn.Gathering{})
	return &Client{rdb: rdb, fold: redisconn.NewFold(rdb), asynq: asynq.NewClientFromRedisClient(rdb), inspector: asynq.NewInspectorFromRedisClient(rdb)}
}

// Send puts dispatches into their queues. A dispatch that is there already was
// sent before and is no error. When some could not be sent the first error is
// returned; others may have been sent.
func (c *Client) Send(ctx context.Context, ds []core.Dispatch) error {
	for part := range slices.Chunk(ds, wave) {
		if err := c.sendWave(ctx, part); err != nil {
			return core.Wrap(core.Unavailable, err, "the queue cannot take the dispatch now")
		}
	}
	return nil
}

// sendWave enqueues the dispatches at once: one by one they would cost a round trip
// each.
func (c *Client) sendWave(ctx context.Context, ds []core.Dispatch) error {
	g := &redisconn.Gather{}
	gathering := g.Context(ctx)
	for _, d := range ds {
		if err := c.enqueue(gathering, g, d); err != nil {
			return err
		}
	}
	return g.Send(ctx, c.fold)
}

// enqueue gathers the task of a dispatch. asynq's client is asked for the first one of
// each queue: it makes the queue known, and shows whether it encodes a message as we
// do. From then on we do, which costs less. Where it differs, as with another
// version of asynq, its client is asked each time.
func (c *Client) enqueue(gathering context.Context, g *redisconn.Gather, d core.Dispatch) error {
	if _, ok := c.proven.Load(d.Queue); ok {
		put(g, d)
		return nil
	}
	id, timeout := d.ID(), taskTimeout(d)
	_, err := c.asynq.EnqueueContext(gathering, asynq.NewTask(TaskType, []byte(id)),
		asynq.TaskID(id), asynq.Queue(d.Queue), asynq.MaxRetry(math.MaxInt32), asynq.Timeout(timeout))
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return nil
	}
	if err == nil && bytes.Equal(g.Last(), appendMessage(nil, d.Queue, id, timeout)) {
		c.proven.Store(d.Queue, true)
	}
	return err
}

// Behind gives a context under which the next script of the store's that is called by
// itself, an admission, takes the dispatches along: they come into their queues right
// after it, in the same round trip, and whatever it answers. went tells then whether they
// did; it may be asked once the script has answered. ok is false, and nothing is taken
// along, where the messages cannot be made here.
func (c *Client) Behind(ctx context.Context, ds []core.Dispatch) (under context.Context, went func() bool, ok bool) {
	g := &redisconn.Gather{}
	for _, d := range ds {
		if _, proven := c.proven.Load(d.Queue); !proven {
			return ctx, nil, false
		}
		put(g, d)
	}
	return g.Behind(ctx), g.Went, true
}

func put(g *redisconn.Gather, d core.Dispatch) {
	id := d.ID()
	g.Put(d.Queue, id, string(appendMessage(make([]byte, 0, messageSize), d.Queue, id, taskTimeout(d))))
}

// A Place is where a dispatch is.
type Place string

// Places of a dispatch.
const (
	Pending Place = "pending" // waits in its queue
	Active  Place = "active"  // a worker took it
	Stuck   Place = "stuck"   // in asynq's retry, scheduled, archived or completed set: somebody's hand, or a worker that could not record
	Missing Place = "missing"
)

// Where says where each dispatch is, in one round trip. asynq's inspector asks
// for one task at a time, so this reads the state that asynq keeps with a task.
func (c *Client) Where(ctx context.Context, ds []core.Dispatch) ([]Place, error) {
	if len(ds) == 0 {
		return nil, nil
	}
	pipe := c.rdb.Pipeline()
	states := make([]*redis.StringCmd, len(ds))
	for i, d := range ds {
		states[i] = pipe.HGet(ctx, "asynq:{"+d.Queue+"}:t:"+d.ID(), "state")
	}
	_, _ = pipe.Exec(ctx) // it gives the first error only, which may be that a task is missing
	out := make([]Place, len(ds))
	for i, state := range states {
		if err := state.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, core.Wrap(core.Unavailable, err, "the queue cannot be read now")
		}
		switch state.Val() {
		case "":
			out[i] = Missing
		case "pending":
			out[i] = Pending
		case "active":
			out[i] = Active
		default:
			out[i] = Stuck
		}
	}
	return out, nil
}

// Remove deletes the task of a dispatch that was replaced. A task that is gone or
// that a worker has taken is left alone; Begin turns it away.
func (c *Client) Remove(ctx context.Context, d core.Dispatch) error {
	err := c.inspector.DeleteTask(d.Queue, d.ID())
	if err == nil || errors.Is(err, asynq.ErrQueueNotFound) || errors.Is(err, asynq.ErrTaskNotFound) {
		return nil
	}
	if places, placeErr := c.Where(ctx, []core.Dispatch{d}); placeErr == nil && places[0] == Active {
		return nil
	}
	return fmt.Errorf("remove task %s: %w", d.ID(), err)
}
