package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// An Outage words what a loop meets at each of its turns while something is away: it
// logs that it is away, now and then that it still is, and that it is back, and after
// how long. The turns between are not logged. It belongs to one goroutine.
type Outage struct {
	Log        *slog.Logger
	Away, Back string // the messages
	// Every is how many failures lie between two lines that say Away; 0 = 30.
	Every int

	since time.Time // of the first failure
	times int       // failures in a row; 0 = nothing is away
}

// Note takes how a turn ended; a nil err is a good end. more are attributes of the line.
func (o *Outage) Note(ctx context.Context, err error, more ...any) {
	if err == nil {
		if o.times > 0 {
			o.Log.InfoContext(ctx, o.Back, append(more, "after", o.age())...)
		}
		o.times = 0
		return
	}
	if o.times == 0 {
		o.since = time.Now()
	}
	o.times++
	switch {
	case o.times == 1:
		o.Log.WarnContext(ctx, o.Away, append(more, "err", err)...)
	case o.times%cmp.Or(o.Every, 30) == 0:
		o.Log.WarnContext(ctx, o.Away, append(more, "for", o.age(), "times", o.times, "err", err)...)
	}
}

func (o *Outage) age() time.Duration { return time.Since(o.since).Round(time.Millisecond) }
