package trigger

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// repair publishes again what was published and not decided: JetStream is
// transport, the ledger is the record.
func (p *Process) repair(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range p.keeper.Shards() {
			if err := p.repairShard(ctx, n); err != nil && ctx.Err() == nil {
				p.log.WarnContext(ctx, "undecided fires not published again", "shard", n, "err", err)
				break
			}
		}
	}
}

func (p *Process) repairShard(ctx context.Context, n int) error {
	now, err := p.store.Now(ctx)
	if err != nil {
		return err
	}
	fires, err := p.store.Undecided(ctx, n, now.Add(-undecidedAfter))
	if err != nil || len(fires) == 0 {
		return err
	}
	for from := 0; from < len(fires); from += message {
		part := fires[from:min(from+message, len(fires))]
		if err := p.bus.Republish(ctx, part); err != nil {
			return err
		}
		if err := p.store.PutOffUndecided(ctx, n, part, now.Add(undecidedAgain-undecidedAfter)); err != nil {
			return err
		}
		p.log.InfoContext(ctx, "undecided fires published again", "shard", n, "count", len(part), "first", fireText(part))
		if p.meter.Repaired != nil {
			p.meter.Repaired(len(part))
		}
	}
	return nil
}

func fireText(fires []core.FireID) string { return fires[0].String() }
