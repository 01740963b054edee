package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// sample is how many members of a set a census looks at one by one.
const sample = 100

// Census counts the unfinished business of a run partition. It costs two round
// trips and changes nothing.
func (s *Store) Census(ctx context.Context, partition int, now time.Time) (core.Census, error) {
	R, c := root(partition), core.Census{Partition: partition}
	pipe := s.rdb.Pipeline()
	counts := map[*int64]*redis.IntCmd{
		&c.Jobs: pipe.HLen(ctx, R+":job"), &c.Groups: pipe.HLen(ctx, R+":group"), &c.Runs: pipe.ZCard(ctx, R+":runs"),
		&c.Sent: pipe.ZCard(ctx, R+":sent"), &c.Live: pipe.HLen(ctx, R+":live"), &c.Parked: pipe.ZCard(ctx, R+":parked"),
		&c.Outbox: pipe.ZCard(ctx, R+":outbox"), &c.Timers: pipe.ZCard(ctx, R+":timers"),
		&c.OutboxLate: pipe.ZCount(ctx, R+":outbox", "-inf", scoreOf(now.Add(-core.OutboxLate))),
		&c.SentLate:   pipe.ZCount(ctx, R+":sent", "-inf", scoreOf(now.Add(-core.SentLate))),
		&c.TimersLate: pipe.ZCount(ctx, R+":timers", "-inf", scoreOf(now.Add(-core.TimersLate))),
	}
	outbox := pipe.ZRangeByScore(ctx, R+":outbox", upTo(now.Add(-core.OutboxLate), sample))
	timers := pipe.ZRangeByScore(ctx, R+":timers", upTo(now.Add(-core.TimersLate), sample))
	parked := pipe.ZRange(ctx, R+":parked", 0, sample-1)
	oldest := pipe.ZRangeWithScores(ctx, R+":runs", 0, 0)
	waiting := pipe.Get(ctx, R+":waiting")
	late := pipe.ZRangeByScore(ctx, R+":sent", upTo(now.Add(-core.SentLate), sample))
	if err := exec(ctx, pipe); err != nil {
		return c, unavailable("count what a partition holds", err)
	}
	for into, cmd := range counts {
		*into = cmd.Val()
	}
	further, _ := waiting.Int64() // none: no stretch was ever dispatched
	c.Sent += further
	for _, member := range late.Val() {
		if _, count, err := readSentMember(member); err == nil {
			c.SentLate += int64(count) - 1
		}
	}
	c.SentLate = min(c.SentLate, c.Sent) // part of a stretch may have begun
	c.OutboxKinds, c.TimerKinds = kinds(outbox.Val()), kinds(timers.Val())
	if z := oldest.Val(); len(z) > 0 {
		c.OldestRun = fromMillis(int64(z[0].Score))
	}
	var err error
	c.ParkReasons, err = s.parkReasons(ctx, R, parked.Val())
	return c, err
}

func scoreOf(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// kinds counts effects or timers by their first field.
func kinds(members []string) map[string]int {
	out := map[string]int{}
	for _, m := range members {
		kind, _, _ := strings.Cut(m, "|")
		out[kind]++
	}
	return out
}

// parkReasons counts parked steps by what their rows say they wait for.
func (s *Store) parkReasons(ctx context.Context, root string, keys []string) (map[string]int, error) {
	out := map[string]int{}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.StringCmd, len(keys))
	for k, key := range keys {
		run, step, _ := strings.Cut(key, ":")
		rows[k] = pipe.HGet(ctx, root+":run:"+run, "s"+step)
	}
	if len(rows) == 0 {
		return out, nil
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read parked steps", err)
	}
	for _, row := range rows {
		var st core.Step
		if row.Err() == nil && decodeStep(row.Val(), &st) == nil {
			out[st.Reason]++
		}
	}
	return out, nil
}

// LateQueues counts, in a sample of the dispatches that have not begun for
// core.SentLate, how many were sent to which queue.
func (s *Store) LateQueues(ctx context.Context, partition int, now time.Time) (map[string]int, error) {
	late, _, err := s.SentBefore(ctx, partition, now.Add(-core.SentLate), 0)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, sent := range late {
		out[sent.Dispatch.Queue]++
	}
	return out, nil
}

// TriggerCensus counts the unfinished business of a trigger partition, and of at
// most sample triggers the ledger. It changes nothing.
func (s *Store) TriggerCensus(ctx context.Context, partition int, now time.Time) (core.TriggerCensus, error) {
	R, c := triggerRoot(partition), core.TriggerCensus{Partition: partition}
	pipe := s.rdb.Pipeline()
	counts := map[*int64]*redis.IntCmd{
		&c.Triggers: pipe.HLen(ctx, R+":trigger"), &c.Scheduled: pipe.HLen(ctx, R+":next"), &c.Outbox: pipe.ZCard(ctx, R+":outbox"),
		&c.Undecided:     pipe.ZCard(ctx, R+":undecided"),
		&c.UndecidedLate: pipe.ZCount(ctx, R+":undecided", "-inf", scoreOf(now.Add(-core.UndecidedLate))),
		&c.OutboxLate:    pipe.ZCount(ctx, R+":outbox", "-inf", scoreOf(now.Add(-core.OutboxLate))),
	}
	nexts := pipe.HGetAll(ctx, R+":next")
	undecided := pipe.ZRangeByScoreWithScores(ctx, R+":undecided", upTo(now.Add(-core.UndecidedLate), 5))
	triggers := pipe.HScan(ctx, R+":trigger", 0, "", sample)
	if err := exec(ctx, pipe); err != nil {
		return c, unavailable("count what a partition holds", err)
	}
	for into, cmd := range counts {
		*into = cmd.Val()
	}
	addOverdue(&c, nexts.Val(), now)
	c.UndecidedOf, c.UndecidedAge = worst(undecided.Val(), now)
	rows, _ := triggers.Val()
	return c, s.countLedger(ctx, R, pairKeys(rows, sample), &c)
}

// addOverdue judges the next slots of the triggers.
func addOverdue(c *core.TriggerCensus, nexts map[string]string, now time.Time) {
	var late []redis.Z
	for uuid, entry := range nexts {
		if slot := slotOf(entry); slot.Before(now.Add(-core.SlotLate)) {
			late = append(late, redis.Z{Score: float64(slot.UnixMilli()), Member: uuid})
		}
	}
	slices.SortFunc(late, func(a, b redis.Z) int { return cmp.Compare(a.Score, b.Score) })
	c.Overdue = int64(len(late))
	c.OverdueOf, c.OverdueAge = worst(late[:min(len(late), 5)], now)
}

// worst gives the members of a set by time, and the age of the oldest.
func worst(z []redis.Z, now time.Time) (members []string, age time.Duration) {
	for k, m := range z {
		name, _ := m.Member.(string)
		members = append(members, name)
		if k == 0 {
			age = now.Sub(fromMillis(int64(m.Score)))
		}
	}
	return members, age
}

// pairKeys gives the fields of what HSCAN answered, at most most.
func pairKeys(pairs []string, most int) (fields []string) {
	for k := 0; k < len(pairs) && len(fields) < most; k += 2 {
		fields = append(fields, pairs[k])
	}
	return fields
}

func (s *Store) countLedger(ctx context.Context, root string, triggers []string, c *core.TriggerCensus) error {
	if len(triggers) == 0 {
		return nil
	}
	pipe := s.rdb.Pipeline()
	sizes, oldest := make([]*redis.IntCmd, len(triggers)), make([]*redis.ZSliceCmd, len(triggers))
	for k, uuid := range triggers {
		sizes[k] = pipe.ZCard(ctx, root+":led:"+uuid)
		oldest[k] = pipe.ZRangeWithScores(ctx, root+":led:"+uuid, 0, 0)
	}
	if err := exec(ctx, pipe); err != nil {
		return unavailable("count ledgers", err)
	}
	c.Looked = int64(len(triggers))
	for k := range triggers {
		c.Entries += sizes[k].Val()
		if z := oldest[k].Val(); len(z) > 0 {
			if at := fromMillis(int64(z[0].Score)); c.OldestEntry.IsZero() || at.Before(c.OldestEntry) {
				c.OldestEntry = at
			}
		}
	}
	return nil
}

// lastCut takes "<holder>|<generation>|<ms>" apart.
func lastCut(row string) (holder string, until int64, ok bool) {
	f := strings.Split(row, "|")
	if len(f) < 3 {
		return "", 0, false
	}
	until, err := strconv.ParseInt(f[len(f)-1], 10, 64)
	return strings.Join(f[:len(f)-2], "|"), until, err == nil
}
