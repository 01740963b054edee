package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

const cardsKey = fleetRoot + ":procs"

// PutCard writes a process's card; its Seen is the caller's to set.
func (s *Store) PutCard(ctx context.Context, c core.Card) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode card: %w", err)
	}
	return unavailable("write the process's card", s.rdb.HSet(ctx, cardsKey, c.ID, text).Err())
}

// DropCard removes the card of a process that ends in good order.
func (s *Store) DropCard(ctx context.Context, id string) error {
	return unavailable("remove the process's card", s.rdb.HDel(ctx, cardsKey, id).Err())
}

// Cards gives the cards of all processes, those that were killed within the last
// day included. Cards that cannot be read are left out.
func (s *Store) Cards(ctx context.Context) ([]core.Card, error) {
	rows, err := s.rdb.HGetAll(ctx, cardsKey).Result()
	if err != nil {
		return nil, unavailable("read cards", err)
	}
	out := make([]core.Card, 0, len(rows))
	for _, text := range rows {
		var c core.Card
		if json.Unmarshal([]byte(text), &c) == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// ForgetCards removes the cards of processes not seen since the given instant.
func (s *Store) ForgetCards(ctx context.Context, before time.Time) error {
	cards, err := s.Cards(ctx)
	if err != nil {
		return err
	}
	for _, c := range cards {
		if c.Seen.Before(before) {
			if err := s.DropCard(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// Leases reads who holds the shards of a role, and changes nothing.
func (s *Store) Leases(ctx context.Context, role string, shards int) (core.LeaseTable, error) {
	table := core.LeaseTable{Role: role, Shards: shards, Holders: map[int]string{}}
	key := "takt:{l:" + role + "}"
	pipe := s.rdb.Pipeline()
	now, rows, members := pipe.Time(ctx), pipe.HGetAll(ctx, key+":shards"), pipe.ZRangeWithScores(ctx, key+":members", 0, -1)
	if err := exec(ctx, pipe); err != nil {
		return table, unavailable("read leases of "+role, err)
	}
	alive := map[string]bool{}
	for _, m := range members.Val() {
		if now.Val().Sub(fromMillis(int64(m.Score))) < LiveFor {
			name, _ := m.Member.(string)
			alive[name] = true
			table.Members = append(table.Members, name)
		}
	}
	addHolders(table.Holders, rows, now.Val())
	return table, nil
}

// addHolders reads rows "<holder>|<generation>|<expires in ms>".
func addHolders(holders map[int]string, rows *redis.MapStringStringCmd, now time.Time) {
	for field, row := range rows.Val() {
		var n int
		if _, err := fmt.Sscan(field, &n); err != nil {
			continue
		}
		if holder, until, ok := lastCut(row); ok && holder != "" && until > now.UnixMilli() {
			holders[n] = holder
		}
	}
}
