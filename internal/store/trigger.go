package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// PutTrigger writes a trigger. t.Version is the version it was read with (0
// creates it), t.Revision and, with checkNext, t.Next are the new ones. settled
// is the next slot the caller took into account; with checkNext the write fails
// with Stale when the trigger has moved past it. Without, the next slot of a
// trigger that exists stays as it is. Entries cover the slots in between. Targets
// that were bound or freed are left in the outbox. A tombstone is written over as
// any trigger is, by its version, so that nobody who knows the dead one, nor a Bury
// that comes late, can touch the new one.
func (s *Store) PutTrigger(ctx context.Context, t core.Trigger, settled time.Time, checkNext bool, entries []core.LedgerEntry, touched []core.Target) error {
	expect := t.Version
	t.Version++
	row, err := encodeTrigger(t)
	if err != nil {
		return err
	}
	was := "*"
	if checkNext {
		was = slotText(settled)
	}
	args := []any{t.UUID, expect, row, t.Version, t.Revision, was, slotText(t.Next), len(entries)}
	for _, e := range entries {
		args = s.appendEntry(args, e)
	}
	for _, target := range touched {
		args = append(args, linkEffect(target, t.UUID))
	}
	n, err := triggerScript.Run(ctx, s.rdb, []string{s.triggerHome(t.UUID)}, args...).Int()
	if err != nil {
		return unavailable("write trigger", err)
	}
	return putResult(n, "trigger", t.UUID, expect)
}

func linkEffect(t core.Target, trigger string) string {
	return "link|" + string(t.Kind) + "|" + t.UUID + "|" + trigger
}

// slotText writes an instant as the scripts compare it: "" for none.
func slotText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// Trigger gives one trigger with its next slot; NotFound also for a tombstone
// unless dead is asked for.
func (s *Store) Trigger(ctx context.Context, uuid string, dead bool) (core.Trigger, error) {
	all, err := s.Triggers(ctx, []string{uuid})
	if err != nil {
		return core.Trigger{}, err
	}
	t, ok := all[uuid]
	if !ok || !t.Deleted.IsZero() && !dead {
		return core.Trigger{}, core.Missing("trigger", uuid)
	}
	return t, nil
}

// Triggers gives triggers with their next slots, by uuid; those that do not exist are
// left out, tombstones are not.
func (s *Store) Triggers(ctx context.Context, uuids []string) (map[string]core.Trigger, error) {
	pipe := s.rdb.Pipeline()
	rows, nexts := make([]*redis.StringCmd, len(uuids)), make([]*redis.StringCmd, len(uuids))
	for k, uuid := range uuids {
		rows[k] = pipe.HGet(ctx, s.triggerHome(uuid)+":trigger", uuid)
		nexts[k] = pipe.HGet(ctx, s.triggerHome(uuid)+":next", uuid)
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read trigger", err)
	}
	out := make(map[string]core.Trigger, len(uuids))
	for k, uuid := range uuids {
		if isNil(rows[k].Err()) {
			continue
		}
		t, err := decodeTrigger(uuid, rows[k].Val())
		if err != nil {
			return nil, err
		}
		t.Next = slotOf(nexts[k].Val())
		out[uuid] = t
	}
	return out, nil
}

// slotOf gives the slot that a trigger's next entry "<revision>.<ms>" names, zero for "".
func slotOf(entry string) time.Time {
	_, text, _ := strings.Cut(entry, ".")
	ms, _ := strconv.ParseInt(text, 10, 64)
	return fromMillis(ms)
}

// mostEdits is how many edits of a partition are kept, as trigger.lua does.
const mostEdits = 1000

// Edits tells which triggers of each partition were edited since a mark that it or
// EditMark gave before, and how far that reaches. A partition whose mark is not to be
// found any more is in lost: anything may have been edited there.
func (s *Store) Edits(ctx context.Context, since map[int]int64) (uuids []string, upTo map[int]int64, lost []int, err error) {
	pipe := s.rdb.Pipeline()
	reads := make(map[int]*redis.ZSliceCmd, len(since))
	for n, mark := range since {
		reads[n] = pipe.ZRangeByScoreWithScores(ctx, triggerRoot(n)+":edited", &redis.ZRangeBy{Min: strconv.FormatInt(mark, 10), Max: "+inf"})
	}
	if len(since) == 0 {
		return nil, nil, nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, nil, unavailable("read edits", err)
	}
	upTo = make(map[int]int64, len(since))
	for n, read := range reads {
		edits := read.Val()
		upTo[n] = since[n]
		if len(edits) > 0 {
			upTo[n] = int64(edits[len(edits)-1].Score)
		}
		// The mark itself is there, or was edited again since.
		if len(edits) >= mostEdits || len(edits) == 0 && since[n] > 0 {
			lost = append(lost, n)
			continue
		}
		for _, e := range edits {
			if uuid, _ := e.Member.(string); int64(e.Score) > since[n] {
				uuids = append(uuids, uuid)
			}
		}
	}
	return uuids, upTo, lost, nil
}

// EditMark gives the mark from which on Edits tells what was edited after now.
func (s *Store) EditMark(ctx context.Context, partition int) (int64, error) {
	last, err := s.rdb.ZRevRangeWithScores(ctx, triggerRoot(partition)+":edited", 0, 0).Result()
	if err != nil || len(last) == 0 {
		return 0, unavailable("read edits", err)
	}
	return int64(last[0].Score), nil
}

// ListTriggers gives every trigger of a partition, or of all for a negative one,
// tombstones left out, in no order.
func (s *Store) ListTriggers(ctx context.Context, partition int) ([]core.Trigger, error) {
	from, to := partition, partition+1
	if partition < 0 {
		from, to = 0, s.opts.Partitions
	}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.MapStringStringCmd, 0, to-from)
	nexts := make([]*redis.MapStringStringCmd, 0, to-from)
	for n := from; n < to; n++ {
		rows = append(rows, pipe.HGetAll(ctx, triggerRoot(n)+":trigger"))
		nexts = append(nexts, pipe.HGetAll(ctx, triggerRoot(n)+":next"))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("list triggers", err)
	}
	var out []core.Trigger
	for k := range rows {
		next := nexts[k].Val()
		for uuid, row := range rows[k].Val() {
			t, err := decodeTrigger(uuid, row)
			if err != nil {
				return nil, err
			}
			if t.Deleted.IsZero() {
				t.Next = slotOf(next[uuid])
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// Tombstones gives the deleted triggers of a partition.
func (s *Store) Tombstones(ctx context.Context, partition int) ([]core.Trigger, error) {
	rows, err := s.rdb.HGetAll(ctx, triggerRoot(partition)+":trigger").Result()
	if err != nil {
		return nil, unavailable("list triggers", err)
	}
	var out []core.Trigger
	for uuid, row := range rows {
		t, err := decodeTrigger(uuid, row)
		if err != nil {
			return nil, err
		}
		if !t.Deleted.IsZero() {
			out = append(out, t)
		}
	}
	return out, nil
}

// Bury removes a tombstone, as it was read, with its ledger. One that a new trigger
// has replaced meanwhile stays.
func (s *Store) Bury(ctx context.Context, t core.Trigger) error {
	err := buryScript.Run(ctx, s.rdb, []string{s.triggerHome(t.UUID)}, t.UUID, t.Version).Err()
	return unavailable("remove tombstone", err)
}

// Link notes at a target that a trigger is about to be bound to it.
func (s *Store) Link(ctx context.Context, target core.Target, trigger string, most int) error {
	n, err := linkScript.Run(ctx, s.rdb, []string{s.home(target.UUID)}, string(target.Kind), target.UUID, trigger, most).Int()
	switch {
	case err != nil:
		return unavailable("link trigger", err)
	case n == 0:
		return core.Missing(nounOf(target.Kind), target.UUID)
	case n < 0:
		return core.Errorf(core.Exhausted, "There are [%d] triggers added to %s[uuid:%s], cannot add any more.", most, nounOf(target.Kind), target.UUID)
	}
	return nil
}

func nounOf(k core.TargetKind) string {
	if k == core.GroupTarget {
		return "job group"
	}
	return "job"
}

// Links gives the triggers that are bound to each of the targets.
func (s *Store) Links(ctx context.Context, targets []string) (map[string][]string, error) {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.StringSliceCmd, len(targets))
	for k, u := range targets {
		cmds[k] = pipe.SMembers(ctx, s.home(u)+":links:"+u)
	}
	if len(cmds) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read links", err)
	}
	out := make(map[string][]string, len(targets))
	for k, u := range targets {
		out[u] = cmds[k].Val()
	}
	return out, nil
}

// NoteLink notes that the link of a target with a trigger is about to be settled, and
// reports whether the target exists. SetLink wants the note, and that what it is told was
// read after it.
func (s *Store) NoteLink(ctx context.Context, t core.Target, trigger string) (exists bool, note string, err error) {
	// The trigger's side comes first: an effect that is left there later is not confirmed.
	score := s.rdb.ZScore(ctx, s.triggerHome(trigger)+":outbox", linkEffect(t, trigger))
	if err := score.Err(); err != nil && !isNil(err) {
		return false, "", unavailable("read link", err)
	}
	r, err := s.call(ctx, noteLinkScript, s.home(t.UUID), string(t.Kind), t.UUID, linkEffect(t, trigger))
	if err != nil {
		return false, "", unavailable("note link", err)
	}
	return reply(r).number(0) == 1, reply(r).text(1) + "|" + scoreText(score), nil
}

// SetLink makes a target's note of a trigger agree with the trigger's own list as it was
// read since NoteLink, and confirms the effect. Where the link was noted anew meanwhile it
// changes nothing: whoever did that has read it later.
func (s *Store) SetLink(ctx context.Context, t core.Target, trigger string, bound bool, note string) error {
	write, effect := "SREM", linkEffect(t, trigger)
	if bound {
		write = "SADD"
	}
	noted, since, _ := strings.Cut(note, "|")
	written, err := setLinkScript.Run(ctx, s.rdb, []string{s.home(t.UUID)}, t.UUID, trigger, write, effect, noted).Int()
	if err != nil || written == 0 || since == "" {
		return unavailable("write link", err)
	}
	err = confirmScript.Run(ctx, s.rdb, []string{s.triggerHome(trigger) + ":outbox"}, effect, since).Err()
	return unavailable("confirm effect", err)
}
