package worker

import (
	"context"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/telemetry"
)

// beat sends a heartbeat at each tick until ctx ends.
func (w *Worker) beat(ctx context.Context, tick <-chan time.Time) {
	announce := false
	heard := time.Now()
	told := telemetry.Outage{Log: w.log, Away: "heartbeat not sent", Back: "heartbeats go through again"}
	for awake := heard; ; awake = time.Now() {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		sent := time.Now()
		if sent.Sub(awake) >= ContactLimit {
			// It will be heard again now, but its steps were taken over meanwhile.
			w.releaseAll(ctx, "the process stood still")
			w.contact.lose()
		}
		err := w.beatOnce(ctx, &announce)
		if err != nil && ctx.Err() != nil {
			return
		}
		told.Note(ctx, err)
		if err == nil {
			heard = sent
			w.contact.find()
		}
		if time.Since(heard) >= ContactLimit {
			// Others are about to take these steps over.
			w.releaseAll(ctx, "no contact with the store")
			w.contact.lose()
		}
	}
}

// A contact is there while others hear this worker. When it was lost for long they count
// the worker as gone, and whatever it has begun as lost, until a heartbeat has gone
// through: a dispatch that comes before that waits for it.
type contact struct {
	mu   sync.Mutex
	back chan struct{} // closed when the contact is there again; nil while it is
}

func (c *contact) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back == nil {
		c.back = make(chan struct{})
	}
}

func (c *contact) find() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back != nil {
		close(c.back)
		c.back = nil
	}
}

// await waits for the contact, ContactLimit at most.
func (c *contact) await(ctx context.Context) error {
	c.mu.Lock()
	back := c.back
	c.mu.Unlock()
	if back == nil {
		return nil
	}
	timer := time.NewTimer(ContactLimit)
	defer timer.Stop()
	select {
	case <-back:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return core.Errorf(core.Unavailable, "no heartbeat of this worker goes through")
}

func (w *Worker) beatOnce(ctx context.Context, announce *bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var self *core.Worker
	if *announce {
		self = &w.self
	}
	stops, err := w.store.Beat(ctx, w.heartbeat(), self)
	if core.Is(err, core.NotFound) {
		*announce = true
		stops, err = w.store.Beat(ctx, w.heartbeat(), &w.self)
	}
	if err != nil {
		return err
	}
	*announce = false
	for _, d := range stops {
		w.Stop(d)
	}
	return nil
}
