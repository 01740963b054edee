package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// One call of the advance script takes so many triggers, and no more once they bring
// so many entries: it keeps all others from Redis meanwhile.
const (
	mostAdvanced = 128
	manyEntries  = 256
)

// advanceLanes is on how many connections an Advance travels. Redis serves its clients
// in turn, so a wave on one connection would wait for all who decide the fires of the
// wave before.
const advanceLanes = 4

// Advance moves triggers of any partitions past slots, each trigger named once. It
// reports, per item, whether it took effect: false means that the trigger was edited
// or that another process advanced it.
func (s *Store) Advance(ctx context.Context, items []core.Advance) ([]bool, error) {
	moved := make([]bool, len(items))
	calls := s.advanceCalls(items)
	lanes := min(advanceLanes, len(calls))
	errs := make([]error, lanes)
	var wg sync.WaitGroup
	for n := 1; n < lanes; n++ {
		wg.Go(func() { errs[n] = s.advance(ctx, items, calls[n*len(calls)/lanes:(n+1)*len(calls)/lanes], moved) })
	}
	if lanes > 0 {
		errs[0] = s.advance(ctx, items, calls[:len(calls)/lanes], moved)
	}
	wg.Wait()
	return moved, unavailable("advance triggers", errors.Join(errs...))
}

// An advanceCall is one call of the script: some items of one partition.
type advanceCall struct {
	root    string
	items   []int // indexes
	entries int
	done    bool
}

func (c *advanceCall) full() bool { return len(c.items) == mostAdvanced || c.entries >= manyEntries }

func (s *Store) advanceCalls(items []core.Advance) []*advanceCall {
	filling := make([]*advanceCall, s.opts.Partitions)
	var all []*advanceCall
	for k, a := range items {
		n := id.Partition(a.Trigger, s.opts.Partitions)
		call := filling[n]
		if call == nil || call.full() {
			call = &advanceCall{root: triggerRoot(n)}
			filling[n], all = call, append(all, call)
		}
		call.items, call.entries = append(call.items, k), call.entries+len(a.Entries)
	}
	return all
}

// advance sends calls, at first and again if the script is missing, and notes what
// moved.
func (s *Store) advance(ctx context.Context, items []core.Advance, calls []*advanceCall, moved []bool) error {
	err := s.sendAdvances(ctx, items, calls, moved)
	if err == nil || !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return err
	}
	if err := advanceScript.Load(ctx, s.rdb).Err(); err != nil {
		return err
	}
	return s.sendAdvances(ctx, items, slices.DeleteFunc(calls, func(c *advanceCall) bool { return c.done }), moved)
}

func (s *Store) sendAdvances(ctx context.Context, items []core.Advance, calls []*advanceCall, moved []bool) error {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for c, call := range calls {
		cmds[c] = advanceScript.EvalSha(ctx, pipe, []string{call.root}, s.advanceArgs(items, call)...)
	}
	_, err := pipe.Exec(ctx)
	for c, cmd := range cmds {
		got, failed := cmd.Slice()
		if failed != nil {
			continue
		}
		for i, k := range calls[c].items {
			moved[k] = reply(got).number(i) == 1
		}
		calls[c].done = true
	}
	return err
}

func (s *Store) advanceArgs(items []core.Advance, call *advanceCall) []any {
	args := make([]any, 1, 1+5*len(call.items)+3*call.entries)
	args[0] = len(call.items)
	for _, k := range call.items {
		args = append(args, items[k].Trigger)
	}
	for _, k := range call.items {
		args = append(args, nextEntry(items[k].Revision, items[k].From))
	}
	for _, k := range call.items {
		args = append(args, nextEntry(items[k].Revision, items[k].Next))
	}
	for place, k := range call.items {
		if plain(items[k]) {
			continue
		}
		args = append(args, place+1, len(items[k].Entries))
		for _, e := range items[k].Entries {
			args = s.appendEntry(args, e)
		}
	}
	return args
}

// nextEntry names the entry of a trigger's next slot; "" for none.
func nextEntry(revision int64, slot time.Time) string {
	if slot.IsZero() {
		return ""
	}
	return core.FireID{Revision: revision, Slot: slot}.Entry()
}

// plain reports whether exactly the expected slot was published: then the script can
// tell the entry from it.
func plain(a core.Advance) bool {
	if len(a.Entries) != 1 {
		return false
	}
	e := a.Entries[0]
	return e.Decision == "" && !e.Manual && e.Revision == a.Revision && e.From.Equal(a.From) && e.To.Equal(a.From)
}

// Lookup says what is known of a fire: its trigger, its ledger entry and whether it
// is open, that is, still to be decided. An entry without an ID is none: its Published
// is the store's present time. known is false for a slot that the trigger never had.
func (s *Store) Lookup(ctx context.Context, f core.FireID) (t core.Trigger, e core.LedgerEntry, open, known bool, err error) {
	r, err := s.call(ctx, lookupScript, s.triggerHome(f.Trigger), f.Trigger, f.Entry(), f.Revision, f.Slot.UnixMilli())
	if err != nil {
		return t, e, false, false, unavailable("look up fire", err)
	}
	got := reply(r)
	if got.text(1) != "" {
		if t, err = decodeTrigger(f.Trigger, got.text(1)); err != nil {
			return t, e, false, false, err
		}
	}
	e.Published = fromMillis(got.number(3))
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
	r, err := s.call(ctx, pageScript, s.triggerHome(trigger), trigger, boundText(from), boundText(to), skip, limit)
	if err != nil {
		return nil, unavailable("read ledger", err)
	}
	page := reply(r)
	out := make([]core.LedgerEntry, 0, len(page)/2)
	for k := 0; k+1 < len(page); k += 2 {
		e, err := decodeEntry(page.text(k), page.text(k+1))
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// boundText writes the first whole millisecond that does not lie before t; "" for none.
func boundText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(millisFrom(t), 10)
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
	b := make([]byte, 0, 96)
	b = strconv.AppendInt(b, e.Revision, 10)
	if e.Manual {
		b = append(b, "|1"...)
	} else {
		b = append(b, "|0"...)
	}
	for _, n := range [...]int64{millis(e.From), millis(e.To), int64(e.Count), millis(e.Published), millis(e.Decided)} {
		b = strconv.AppendInt(append(b, '|'), n, 10)
	}
	for _, text := range [...]string{string(e.Decision), strings.Join(e.Runs, ","), strings.Join(e.Only, ","), clean(e.Reason)} {
		b = append(append(b, '|'), text...)
	}
	return string(b)
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
	_, e, _, _, err = s.Lookup(ctx, f)
	if err != nil || e.ID == "" {
		return core.LedgerEntry{}, false, err
	}
	return e, true, nil
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
	if len(fires) == 0 {
		return nil
	}
	members := make([]redis.Z, len(fires))
	for k, f := range fires {
		members[k] = redis.Z{Score: float64(until.UnixMilli()), Member: f.String()}
	}
	err := s.rdb.ZAddXX(ctx, triggerRoot(partition)+":undecided", members...).Err()
	return unavailable("put off undecided fires", err)
}
