package worker

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// beat sends a heartbeat each second until ctx ends.
func (w *Worker) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	announce := false
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := time.Now()
		err := w.beatOnce(ctx, &announce)
		switch {
		case err == nil:
			heard = sent
		case ctx.Err() != nil:
			return
		default:
			w.log.WarnContext(ctx, "heartbeat not sent", "for", time.Since(heard).Round(time.Millisecond), "err", err)
		}
		if time.Since(heard) >= ContactLimit {
			// Others are about to take these steps over.
			w.releaseAll(ctx, "no contact with the store")
		}
	}
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
