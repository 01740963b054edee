package worker

import (
	"context"
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
		}
		err := w.beatOnce(ctx, &announce)
		if err != nil && ctx.Err() != nil {
			return
		}
		told.Note(ctx, err)
		if err == nil {
			heard = sent
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
