package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// NextSlots gives the triggers of a partition whose next slot is at or before
// the given instant, earliest first, at most most.
func (s *Store) NextSlots(ctx context.Context, partition int, until time.Time, most int) ([]core.Slot, error) {
	z, err := s.rdb.ZRangeByScoreWithScores(ctx, triggerRoot(partition)+":next", &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(until.UnixMilli(), 10), Count: int64(most),
	}).Result()
	if err != nil {
		return nil, unavailable("read next slots", err)
	}
	out := make([]core.Slot, len(z))
	for k, m := range z {
		uuid, _ := m.Member.(string)
		out[k] = core.Slot{Trigger: uuid, At: fromMillis(int64(m.Score))}
	}
	return out, nil
}

// Advance moves triggers of any partitions past slots. It reports, per item,
// whether it took effect: false means that the trigger was edited or that
// another process advanced it.
func (s *Store) Advance(ctx context.Context, items []core.Advance) ([]bool, error) {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(items))
	for k, a := range items {
		args := []any{a.Trigger, a.Revision, slotText(a.From), slotText(a.Next), len(a.Entries)}
		for _, e := range a.Entries {
			args = s.appendEntry(args, e)
		}
		cmds[k] = advanceScript.EvalSha(ctx, pipe, []string{s.triggerHome(a.Trigger)}, args...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			if err := advanceScript.Load(ctx, s.rdb).Err(); err != nil {
				return nil, unavailable("load script", err)
			}
			return s.Advance(ctx, items)
		}
		return nil, unavailable("advance triggers", err)
	}
	out := make([]bool, len(items))
	for k, cmd := range cmds {
		n, _ := cmd.Int()
		out[k] = n == 1
	}
	return out, nil
}

// Lookup says what is known of a fire: its trigger, its ledger entry (zero when
// it has none of its own) and whether it is open, that is, still to be decided.
// known is false for a slot that the trigger never had.
func (s *Store) Lookup(ctx context.Context, f core.FireID) (t core.Trigger, e core.LedgerEntry, open, known bool, err error) {
	r, err := s.call(ctx, lookupScript, s.triggerHome(f.Trigger), f.Trigger, f.Entry(), f.Revision, f.Slot.UnixMilli())
	if err != nil {
		return t, e, false, false, unavailable("look up fire", err)
	}
	got := reply(r)
	if got.text(1) != "" {
		if t, err = decodeTrigger(got.text(1)); err != nil {
			return t, e, false, false, err
		}
	}
	if got.text(2) != "" {
		if e, err = decodeEntry(f.Entry(), got.text(2)); err != nil {
			return t, e, false, false, err
		}
	}
	return t, e, got.text(0) == "open", got.text(0) != "unknown", nil
}

// Decide writes what became of a fire. It returns false when it was decided
// before.
func (s *Store) Decide(ctx context.Context, f core.FireID, e core.LedgerEntry) (bool, error) {
	blank := e
	blank.Decision, blank.Decided, blank.Runs, blank.Reason = "", time.Time{}, nil, ""
	n, err := decideScript.Run(ctx, s.rdb, []string{s.triggerHome(f.Trigger)},
		f.Trigger, f.Entry(), f.Slot.UnixMilli(), string(e.Decision), strings.Join(e.Runs, ","), clean(e.Reason),
		encodeEntry(blank), core.LateAfter.Milliseconds()).Int()
	return n == 1, unavailable("decide fire", err)
}

// Undecided gives at most 500 fires of a partition that were published before
// the given instant and are not decided.
func (s *Store) Undecided(ctx context.Context, partition int, before time.Time) ([]core.FireID, error) {
	members, err := s.rdb.ZRangeByScore(ctx, triggerRoot(partition)+":undecided", &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(before.UnixMilli(), 10), Count: core.Chunk,
	}).Result()
	if err != nil {
		return nil, unavailable("read undecided fires", err)
	}
	out := make([]core.FireID, 0, len(members))
	for _, m := range members {
		f, err := core.ParseFireID(m)
		if err != nil {
			s.rdb.ZRem(ctx, triggerRoot(partition)+":undecided", m) // nothing can be done with it
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

// Ledger gives entries of a trigger whose first slot lies in [from, to), newest
// first; zero bounds are open. skip passes over that many.
func (s *Store) Ledger(ctx context.Context, trigger string, from, to time.Time, skip, limit int) ([]core.LedgerEntry, error) {
	low, high := "-inf", "+inf"
	if !from.IsZero() {
		low = strconv.FormatInt(millisFrom(from), 10)
	}
	if !to.IsZero() {
		high = "(" + strconv.FormatInt(millisFrom(to), 10)
	}
	home := s.triggerHome(trigger)
	ids, err := s.rdb.ZRevRangeByScore(ctx, home+":led:"+trigger, &redis.ZRangeBy{Min: low, Max: high, Offset: int64(skip), Count: int64(limit)}).Result()
	if err != nil || len(ids) == 0 {
		return nil, unavailable("read ledger", err)
	}
	rows, err := s.rdb.HMGet(ctx, home+":row:"+trigger, ids...).Result()
	if err != nil {
		return nil, unavailable("read ledger", err)
	}
	out := make([]core.LedgerEntry, 0, len(ids))
	for k, id := range ids {
		row, ok := rows[k].(string)
		if !ok {
			continue // trimmed meanwhile
		}
		e, err := decodeEntry(id, row)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// LedgerDays gives the counters of a trigger per UTC day: "2006-01-02" to
// decision to number of slots.
func (s *Store) LedgerDays(ctx context.Context, trigger string) (map[string]map[core.Decision]int64, error) {
	rows, err := s.rdb.HGetAll(ctx, s.triggerHome(trigger)+":day:"+trigger).Result()
	if err != nil {
		return nil, unavailable("read ledger counters", err)
	}
	out := map[string]map[core.Decision]int64{}
	for field, v := range rows {
		day, decision, _ := strings.Cut(field, ".")
		n, _ := strconv.ParseInt(day, 10, 64)
		date := time.Unix(n*86400, 0).UTC().Format(time.DateOnly)
		if out[date] == nil {
			out[date] = map[core.Decision]int64{}
		}
		out[date][core.Decision(decision)], _ = strconv.ParseInt(v, 10, 64)
	}
	return out, nil
}

// DayCountersKept is how long the counters per day are kept.
const DayCountersKept = 400 * 24 * time.Hour

// TrimLedger removes entries past their age or above their number, and counters
// past their age. It gives the number of entries removed, at most 1000 a call.
func (s *Store) TrimLedger(ctx context.Context, trigger string, now time.Time) (int, error) {
	day := now.Add(-DayCountersKept).Unix() / 86400
	n, err := trimScript.Run(ctx, s.rdb, []string{s.triggerHome(trigger)}, trigger, now.Add(-s.opts.LedgerAge).UnixMilli(), day, s.opts.LedgerEntries).Int()
	return n, unavailable("trim ledger", err)
}

// LedgerAge is how long ledger entries are kept.
func (s *Store) LedgerAge() time.Duration { return s.opts.LedgerAge }

func (s *Store) appendEntry(args []any, e core.LedgerEntry) []any {
	return append(args, e.ID, e.From.UnixMilli(), encodeEntry(e))
}

func encodeEntry(e core.LedgerEntry) string {
	manual := "0"
	if e.Manual {
		manual = "1"
	}
	return strings.Join([]string{
		strconv.FormatInt(e.Revision, 10), manual,
		strconv.FormatInt(millis(e.From), 10), strconv.FormatInt(millis(e.To), 10), strconv.Itoa(e.Count),
		strconv.FormatInt(millis(e.Published), 10), strconv.FormatInt(millis(e.Decided), 10), string(e.Decision),
		strings.Join(e.Runs, ","), strings.Join(e.Only, ","), clean(e.Reason),
	}, "|")
}

func decodeEntry(id, row string) (core.LedgerEntry, error) {
	f := strings.SplitN(row, "|", 11)
	if len(f) != 11 {
		return core.LedgerEntry{}, fmt.Errorf("read ledger entry %q", row)
	}
	var n [7]int64
	for _, i := range []int{0, 2, 3, 4, 5, 6} {
		v, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return core.LedgerEntry{}, fmt.Errorf("read ledger entry %q: %w", row, err)
		}
		n[i] = v
	}
	e := core.LedgerEntry{
		ID: id, Revision: n[0], Manual: f[1] == "1", From: fromMillis(n[2]), To: fromMillis(n[3]), Count: int(n[4]),
		Published: fromMillis(n[5]), Decided: fromMillis(n[6]), Decision: core.Decision(f[7]), Reason: f[10],
		Runs: split(f[8]), Only: split(f[9]),
	}
	if fired := e.Decision != core.Missed && e.Decision != core.Merged; fired && !e.Manual {
		e.Lateness = max(0, e.Published.Sub(e.From), e.Decided.Sub(e.From))
	}
	return e, nil
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// OpenFire writes the entry of a fire by hand, published and undecided. An entry
// that is there already stays as it is.
func (s *Store) OpenFire(ctx context.Context, f core.FireID, e core.LedgerEntry) error {
	n, err := openScript.Run(ctx, s.rdb, []string{s.triggerHome(f.Trigger)}, s.appendEntry([]any{f.Trigger}, e)...).Int()
	if err == nil && n == 0 {
		return core.Missing("trigger", f.Trigger)
	}
	return unavailable("open fire", err)
}

// LedgerEntry gives the entry of one fire; ok is false when it has none of its own.
func (s *Store) LedgerEntry(ctx context.Context, f core.FireID) (e core.LedgerEntry, ok bool, err error) {
	row, err := s.rdb.HGet(ctx, s.triggerHome(f.Trigger)+":row:"+f.Trigger, f.Entry()).Result()
	if isNil(err) {
		return e, false, nil
	}
	if err != nil {
		return e, false, unavailable("read ledger", err)
	}
	e, err = decodeEntry(f.Entry(), row)
	return e, err == nil, err
}

// ManualFire keeps the name of a fire by hand under its Manual key and gives the
// name that was kept first.
func (s *Store) ManualFire(ctx context.Context, f core.FireID, keep time.Duration) (core.FireID, error) {
	key := s.triggerHome(f.Trigger) + ":manual:" + f.Trigger + ":" + f.Manual
	if err := s.rdb.SetNX(ctx, key, f.Entry(), keep).Err(); err != nil {
		return f, unavailable("name fire", err)
	}
	kept, err := s.rdb.Get(ctx, key).Result()
	if err != nil {
		return f, unavailable("name fire", err)
	}
	return core.ParseEntry(f.Trigger, kept)
}

// PutOffUndecided notes that undecided fires were published again: Undecided
// gives them again only after the wait.
func (s *Store) PutOffUndecided(ctx context.Context, partition int, fires []core.FireID, until time.Time) error {
	members := make([]redis.Z, len(fires))
	for k, f := range fires {
		members[k] = redis.Z{Score: float64(until.UnixMilli()), Member: f.String()}
	}
	err := s.rdb.ZAddXX(ctx, triggerRoot(partition)+":undecided", members...).Err()
	return unavailable("put off undecided fires", err)
}
