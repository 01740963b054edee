package process

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
)

// keepCard writes this process's card each core.CardPace, at two commands a time,
// until the process closes, which removes it. What fails is tried at the next
// pace: nothing depends on a card but what `takt doctor` can tell.
func (b *base) keepCard(ctx context.Context) {
	host, _ := os.Hostname()
	card := core.Card{
		ID: member(), Role: b.name, Host: host, Version: Version, Cores: runtime.GOMAXPROCS(0),
		Zones: schedule.RulesVersion, ZonesHash: schedule.RulesHash(), Zone: b.zone,
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // a worker that drains lives on
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(core.CardPace)
		defer tick.Stop()
		for {
			if err := writeCard(ctx, b.store, &card); err != nil && ctx.Err() == nil {
				b.log.DebugContext(ctx, "card not written", "err", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	b.closers = append(b.closers, func() error {
		cancel()
		<-ended
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return b.store.DropCard(ctx, card.ID)
	})
}

// writeCard measures this process's clock against Redis' and writes the card.
func writeCard(ctx context.Context, s *store.Store, card *core.Card) error {
	ctx, cancel := context.WithTimeout(ctx, core.CardPace/2)
	defer cancel()
	sent := time.Now()
	theirs, err := s.Now(ctx)
	if err != nil {
		return err
	}
	card.RoundTrip = time.Since(sent)
	card.Ahead = sent.Add(card.RoundTrip / 2).Sub(theirs)
	card.Seen = theirs
	if card.Started.IsZero() {
		card.Started = theirs
	}
	return s.PutCard(ctx, *card)
}
