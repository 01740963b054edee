package store

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Due gives the timers that are due in each of the partitions, at most 200 a
// partition, split at "|": the first field says what to do.
func (s *Store) Due(ctx context.Context, partitions []int, now time.Time) (map[int][][]string, error) {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.StringSliceCmd, len(partitions))
	for k, n := range partitions {
		cmds[k] = pipe.ZRangeByScore(ctx, root(n)+":timers", upTo(now, 200))
	}
	if len(cmds) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read timers", err)
	}
	out := map[int][][]string{}
	for k, n := range partitions {
		for _, m := range cmds[k].Val() {
			out[n] = append(out[n], strings.Split(m, "|"))
		}
	}
	return out, nil
}

func upTo(t time.Time, count int64) *redis.ZRangeBy {
	return &redis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(t.UnixMilli(), 10), Count: count}
}

// Outbox gives at most 200 effects of a run partition that are older than the
// given instant.
func (s *Store) Outbox(ctx context.Context, partition int, before time.Time) ([][]string, error) {
	return s.dueOf(ctx, root(partition)+":outbox", before)
}

// TriggerOutbox is Outbox for a trigger partition.
func (s *Store) TriggerOutbox(ctx context.Context, partition int, before time.Time) ([][]string, error) {
	return s.dueOf(ctx, triggerRoot(partition)+":outbox", before)
}

func (s *Store) dueOf(ctx context.Context, key string, now time.Time) ([][]string, error) {
	members, err := s.rdb.ZRangeByScore(ctx, key, upTo(now, 200)).Result()
	if err != nil {
		return nil, unavailable("read "+key, err)
	}
	out := make([][]string, len(members))
	for k, m := range members {
		out[k] = strings.Split(m, "|")
	}
	return out, nil
}

// Done takes an effect out of a run partition's outbox once it is confirmed.
func (s *Store) Done(ctx context.Context, partition int, effect []string) error {
	return unavailable("confirm effect", s.rdb.ZRem(ctx, root(partition)+":outbox", strings.Join(effect, "|")).Err())
}

// TriggerDone is Done for a trigger partition.
func (s *Store) TriggerDone(ctx context.Context, partition int, effect []string) error {
	return unavailable("confirm effect", s.rdb.ZRem(ctx, triggerRoot(partition)+":outbox", strings.Join(effect, "|")).Err())
}

// TimerDone removes a timer that no longer means anything.
func (s *Store) TimerDone(ctx context.Context, partition int, timer []string) error {
	return unavailable("remove timer", s.rdb.ZRem(ctx, root(partition)+":timers", strings.Join(timer, "|")).Err())
}

// SentBefore gives about core.Chunk dispatches of a partition, at most twice as many, that
// were sent before the given instant and have not begun. skip is 0, or what the call
// before gave as next, which is 0 where there are no more.
func (s *Store) SentBefore(ctx context.Context, partition int, before time.Time, skip int) (sent []core.Sent, next int, err error) {
	z, err := s.rdb.ZRangeByScoreWithScores(ctx, root(partition)+":sent", &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(before.UnixMilli(), 10), Offset: int64(skip), Count: core.Chunk,
	}).Result()
	if err != nil {
		return nil, 0, unavailable("read sent dispatches", err)
	}
	pipe := s.rdb.Pipeline()
	var members []sentMember
	for steps := 0; len(members) < len(z) && steps < core.Chunk; {
		m := z[len(members)]
		first, count, err := readSentMember(m.Member.(string))
		if err != nil {
			count = 0
		}
		fields := []string{"together"}
		for i := range count {
			fields = append(fields, "s"+strconv.Itoa(first.Step+i))
		}
		members = append(members, sentMember{first, fromMillis(int64(m.Score)), pipe.HMGet(ctx, root(partition)+":run:"+first.Run, fields...)})
		steps += count
	}
	if len(members) == 0 {
		return nil, 0, nil
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, 0, unavailable("read sent dispatches", err)
	}
	for _, m := range members {
		sent = append(sent, m.dispatches()...)
	}
	if len(members) < len(z) || len(z) == core.Chunk {
		next = skip + len(members)
	}
	return sent, next, nil
}

// sentMember is a member of the set of dispatches that have not begun, with the rows of
// its steps: the run's field `together`, then a row each.
type sentMember struct {
	first core.Dispatch
	since time.Time
	rows  *redis.SliceCmd
}

// dispatches gives what of a member has not begun.
func (m sentMember) dispatches() []core.Sent {
	got := m.rows.Val()
	stretches := stretchesOf(text(got[0]))
	single := len(got) == 2
	var out []core.Sent
	for k := range got[1:] {
		own := text(got[1+k])
		if own != "" && !single {
			continue // it has left its stretch
		}
		d := m.first
		d.Step += k
		var st core.Step
		if row := rowOf(own, stretches, d.Step); row != "" && decodeStep(row, &st) == nil {
			d.Queue = st.Queue
		}
		out = append(out, core.Sent{Dispatch: d, Since: m.since})
	}
	return out
}

// Parked gives at most core.Chunk steps of a partition that wait for a worker,
// with the fence that Move wants. Where there are more, each call gives another
// part of them, by chance: those in front, whose worker may never come, must not
// hold up those behind.
func (s *Store) Parked(ctx context.Context, partition int) ([]core.Dispatch, error) {
	key := root(partition) + ":parked"
	n, err := s.rdb.ZCard(ctx, key).Result()
	if err != nil || n == 0 {
		return nil, unavailable("read parked steps", err)
	}
	from := core.Chunk * rand.Int64N((n+core.Chunk-1)/core.Chunk)
	keys, err := s.rdb.ZRange(ctx, key, from, from+core.Chunk-1).Result()
	if err != nil || len(keys) == 0 {
		return nil, unavailable("read parked steps", err)
	}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.StringCmd, len(keys))
	for k, key := range keys {
		run, step, _ := strings.Cut(key, ":")
		rows[k] = pipe.HGet(ctx, root(partition)+":run:"+run, "s"+step)
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read parked steps", err)
	}
	out := make([]core.Dispatch, 0, len(keys))
	for k, key := range keys {
		run, step, _ := strings.Cut(key, ":")
		d := core.Dispatch{Run: run}
		d.Step, _ = strconv.Atoi(step)
		var st core.Step
		if rows[k].Err() == nil && decodeStep(rows[k].Val(), &st) == nil {
			d.Fence = st.Fence
		}
		out = append(out, d)
	}
	return out, nil
}

// Live gives the attempts under way in a partition.
func (s *Store) Live(ctx context.Context, partition int) ([]core.Under, error) {
	rows, err := s.rdb.HGetAll(ctx, root(partition)+":live").Result()
	if err != nil {
		return nil, unavailable("read attempts under way", err)
	}
	out := make([]core.Under, 0, len(rows))
	for id, row := range rows {
		d, err := core.ParseDispatch(id)
		worker, deadline, ok := strings.Cut(row, "|")
		ms, err2 := strconv.ParseInt(deadline, 10, 64)
		if err != nil || err2 != nil || !ok {
			continue
		}
		out = append(out, core.Under{Dispatch: d, Worker: worker, Overdue: fromMillis(ms)})
	}
	return out, nil
}

// TellStop leaves word for a worker, which its next heartbeat brings it.
func (s *Store) TellStop(ctx context.Context, st core.Stop) error {
	pipe := s.rdb.Pipeline()
	key := fleetRoot + ":stop:" + st.Worker
	pipe.SAdd(ctx, key, st.Dispatch)
	pipe.Expire(ctx, key, time.Minute)
	_, err := pipe.Exec(ctx)
	return unavailable("tell worker to stop", err)
}

// Counters gives the counters of a partition, kept at transitions: "run.<letter>",
// "step.<letter>", "retry", "redispatch", "lost", "released".
func (s *Store) Counters(ctx context.Context, partition int) (map[string]int64, error) {
	rows, err := s.rdb.HGetAll(ctx, root(partition)+":count").Result()
	if err != nil {
		return nil, unavailable("read counters", err)
	}
	out := make(map[string]int64, len(rows))
	for k, v := range rows {
		out[k], _ = strconv.ParseInt(v, 10, 64)
	}
	return out, nil
}
