package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

// ZStack's history with a million rows: the newest 50 of a group, of a job, of a
// trigger, of a fire, and one row by its id. All rows are of one job in one group on
// one trigger, so that each condition has the longest list there can be, and each row
// is a run of its own. One fire is real; the others are copies of its run, made in
// Redis by a script: its row (but for its creation stamp), the three kinds of index
// the store keeps, the count of its plan's runs and the timer of its retention.

// copyFires makes copies of a run that has ended.
// KEYS[1] root of the partition
// ARGV 1 run, 2 target, 3 trigger, 4 creation stamp of the first, 5 end of retention in
// ms, then the ids of the copies
var copyFires = redis.NewScript(`
local R = KEYS[1]
for k = 6, #ARGV do
  local stamp = string.format('%.0f', ARGV[4] + k - 6)
  redis.call('COPY', R .. ':run:' .. ARGV[1], R .. ':run:' .. ARGV[k])
  redis.call('HSET', R .. ':run:' .. ARGV[k], 'cr', stamp)
  redis.call('ZADD', R .. ':runs', stamp, ARGV[k])
  redis.call('ZADD', R .. ':runs:' .. ARGV[2], stamp, ARGV[k])
  redis.call('ZADD', R .. ':runs:by:' .. ARGV[3], stamp, ARGV[k])
  redis.call('ZADD', R .. ':timers', ARGV[5], 'forget|' .. ARGV[k])
end
redis.call('HINCRBY', R .. ':plan:' .. redis.call('HGET', R .. ':run:' .. ARGV[1], 'pl'), 'refs', #ARGV - 5)
return #ARGV - 5`)

// A zhouse is a house with one ZStack job in one group on one trigger.
type zhouse struct {
	*house.House
	client              http.Client
	session             string
	job, group, trigger string
	fires               []string // of the copies
}

func zquery(ctx context.Context, e env) ([]result, error) {
	n := e.size(1_000_000, 20_000)
	z, err := openZHouse(ctx, n)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	e.tell("%d history rows stored", n)
	const page = "&sort=-startTime&limit=50"
	var out []result
	for _, row := range []struct {
		name string
		rows int
		ask  func() string
	}{
		{"schedulerJobGroupUuid", 50, func() string { return "q=schedulerJobGroupUuid=" + z.group + page }},
		{"schedulerJobUuid", 50, func() string { return "q=schedulerJobUuid=" + z.job + page }},
		{"triggerUuid", 50, func() string { return "q=triggerUuid=" + z.trigger + page }},
		{"fireInstanceId", 1, func() string { return "q=fireInstanceId=" + z.fires[rand.IntN(len(z.fires))] + page }},
		{"uuid", 1, func() string { return "q=uuid=" + z.rowID(rand.IntN(len(z.fires))) + page }},
	} {
		times := e.smokeOr(400, 50)
		r := result{Measure: "ZStack history by " + row.name + ", " + number(float64(n)) + " rows stored, p99", Unit: "ms", Bar: within(20)}
		var p50, counted []float64
		for range e.rounds {
			took, err := z.time(ctx, times, row.rows, row.ask)
			if err != nil {
				return nil, err
			}
			p50, r.Values = append(p50, stat.Percentile(took, 50)), append(r.Values, stat.Percentile(took, 99))
			if row.name == "triggerUuid" {
				continue // its first count takes as long as a group's, and tells nothing new
			}
			withCount := func() string { return row.ask() + "&replyWithCount=true" }
			if _, err := z.first(ctx, "/scheduler/job/history?"+withCount()); err != nil {
				return nil, err
			}
			if took, err = z.time(ctx, times/4, -1, withCount); err != nil {
				return nil, err
			}
			counted = append(counted, stat.Percentile(took, 99))
		}
		r.Notes = []note{{"p50", "ms", p50}, {"with replyWithCount, p99", "ms", counted}}
		e.tell("%s: p50 %s, p99 %s ms", row.name, number(stat.Median(p50)), number(r.median()))
		out = append(out, r)
	}
	counts, err := zcounts(ctx, e, z, n)
	return append(out, counts...), err
}

// zcounts measures what counts all runs: the first time, and when the process has
// seen them.
func zcounts(ctx context.Context, e env, z *zhouse, n int) ([]result, error) {
	from := time.Now().AddDate(0, 0, -30).UnixMilli()
	report := fmt.Sprintf("/scheduler/report?startTime=%d&intervalTimeUnit=Day&range=31&schedulerJobTypes=noop", from)
	var out []result
	for _, row := range []struct{ name, path string }{
		{"ZStack execution report of 31 days", report},
		{"ZStack history, count of all rows", "/scheduler/job/history?count=true"},
	} {
		took, err := z.first(ctx, row.path)
		if err != nil {
			return nil, err
		}
		first := ms(took)
		r := result{Measure: row.name + ", " + number(float64(n)) + " rows stored, p99", Unit: "ms"}
		for range e.rounds {
			var took []float64
			for range e.smokeOr(30, 10) {
				began := time.Now()
				if _, err := z.get(ctx, row.path); err != nil {
					return nil, err
				}
				took = append(took, ms(time.Since(began)))
			}
			r.Values = append(r.Values, stat.Percentile(took, 99))
		}
		r.Notes = []note{{"the first one of a process", "ms", []float64{first}}}
		e.tell("%s: p99 %s ms, the first %s ms", row.name, number(r.median()), number(first))
		out = append(out, r)
	}
	return out, nil
}

// time asks for history again and again and gives the times in ms. An answer must
// have so many rows, unless rows is -1.
func (z *zhouse) time(ctx context.Context, times, rows int, ask func() string) ([]float64, error) {
	var took []float64
	for range times {
		path := "/scheduler/job/history?" + ask()
		began := time.Now()
		text, err := z.get(ctx, path)
		took = append(took, ms(time.Since(began)))
		if err != nil {
			return nil, err
		}
		var page struct{ Inventories []json.RawMessage }
		if err := json.Unmarshal(text, &page); err != nil || rows >= 0 && len(page.Inventories) != rows {
			return nil, fmt.Errorf("GET %s: %d rows, want %d: %w", path, len(page.Inventories), rows, err)
		}
	}
	return took, nil
}

// first asks for what a process has to count all runs for, and gives how long it took.
// A count that needs more than a request's time goes on when it is asked for again.
func (z *zhouse) first(ctx context.Context, path string) (time.Duration, error) {
	began := time.Now()
	_, err := z.get(ctx, path)
	for err != nil && strings.Contains(err.Error(), "the count goes on") && time.Since(began) < time.Minute {
		_, err = z.get(ctx, path)
	}
	return time.Since(began), err
}

func (z *zhouse) get(ctx context.Context, path string) ([]byte, error) {
	return z.send(ctx, http.MethodGet, path, nil)
}

// send makes a ZStack call and gives the body of a 200.
func (z *zhouse) send(ctx context.Context, method, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, z.URL+"/zstack/v1"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "OAuth "+z.session)
	res, err := z.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: status %d %.300s: %w", method, path, res.StatusCode, text, err)
	}
	return text, nil
}

// make makes a thing and gives its uuid.
func (z *zhouse) make(ctx context.Context, method, path string, body any) (string, error) {
	text, err := z.send(ctx, method, path, body)
	var out struct{ Inventory struct{ UUID string } }
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out.Inventory.UUID, err
}

type fields = map[string]any

// openZHouse opens a house with n history rows.
func openZHouse(ctx context.Context, n int) (*zhouse, error) {
	var executed atomic.Int64
	h, err := house.Open(ctx, house.Options{Fsync: "none", Keep: 60 * 24 * time.Hour, Types: []executor.Type{noop(&executed)}})
	if err != nil {
		return nil, err
	}
	z := &zhouse{House: h}
	if err := z.fill(ctx, n); err != nil {
		h.Close()
		return nil, fmt.Errorf("store %d history rows: %w", n, err)
	}
	return z, nil
}

func (z *zhouse) fill(ctx context.Context, n int) error {
	name, password := z.Admin()
	sum := sha512.Sum512([]byte(password))
	var err error
	login := fields{"logInByAccount": fields{"accountName": name, "password": hex.EncodeToString(sum[:])}}
	if z.session, err = z.make(ctx, http.MethodPut, "/accounts/login", login); err != nil {
		return err
	}
	params := func(f fields) fields { return fields{"params": f} }
	if z.job, err = z.make(ctx, http.MethodPost, "/scheduler/jobs", params(fields{"name": "j", "type": "noop", "targetResourceUuid": id.New()})); err != nil {
		return err
	}
	if z.group, err = z.make(ctx, http.MethodPost, "/scheduler/jobgroups", params(fields{"name": "g", "type": "noop"})); err != nil {
		return err
	}
	if z.trigger, err = z.make(ctx, http.MethodPost, "/scheduler/triggers", params(fields{"name": "t", "schedulerType": "cron", "cron": "0 0 3 1 1 ?"})); err != nil {
		return err
	}
	if _, err = z.send(ctx, http.MethodPost, "/scheduler/jobgroups/"+z.group+"/job", params(fields{"schedulerJobUuids": []string{z.job}})); err != nil {
		return err
	}
	if _, err = z.send(ctx, http.MethodPost, "/scheduler/jobgroups/"+z.group+"/scheduler/triggers/"+z.trigger, params(fields{"triggerNow": true})); err != nil {
		return err
	}
	real, err := z.fired(ctx)
	if err != nil {
		return err
	}
	return z.copies(ctx, real, n-1)
}

// fired waits until the one real fire has ended and gives its run.
func (z *zhouse) fired(ctx context.Context) (run string, err error) {
	err = house.Await(ctx, 20*time.Millisecond, 30*time.Second, func() (bool, error) {
		text, err := z.get(ctx, "/scheduler/job/history?q="+url.QueryEscape("success=true"))
		var page struct {
			Inventories []struct{ FireInstanceID string }
		}
		if err == nil {
			err = json.Unmarshal(text, &page)
		}
		if len(page.Inventories) == 0 {
			return false, err
		}
		run = page.Inventories[0].FireInstanceID
		return true, err
	})
	return run, err
}

// copies spreads n copies over the last 30 days, 500 next to each other.
func (z *zhouse) copies(ctx context.Context, real string, n int) error {
	const part = 500
	partition, ok := id.RunPartition(real)
	if !ok {
		return fmt.Errorf("%q is no run", real)
	}
	root, now := fmt.Sprintf("takt:{p:%d}", partition), time.Now()
	parts := (n + part - 1) / part
	step := 30 * 24 * time.Hour / time.Duration(parts)
	pipe := z.Redis.Client.Pipeline()
	for k := range parts {
		at := now.Add(-time.Duration(parts-k) * step)
		args := []any{real, z.group, z.trigger, at.UnixMilli(), now.Add(7 * 24 * time.Hour).UnixMilli()}
		for i := range min(part, n-k*part) {
			run := id.Run(at.Add(time.Duration(i)*time.Millisecond), partition)
			args, z.fires = append(args, run), append(z.fires, run)
		}
		copyFires.Eval(ctx, pipe, []string{root}, args...)
		if pipe.Len() < 50 && k < parts-1 {
			continue
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	if err := sameRow(ctx, z.House, root, real); err != nil {
		return err
	}
	stored, err := z.Redis.Client.ZCard(ctx, root+":runs:by:"+z.trigger).Result()
	if err == nil && stored != int64(n+1) {
		err = fmt.Errorf("%d runs of the trigger are stored, want %d", stored, n+1)
	}
	return err
}

// rowID computes the id of the only row of a fire, as the dialect does: ms since
// 2024, partition, index.
func (z *zhouse) rowID(fire int) string {
	at, _ := id.RunTime(z.fires[fire])
	partition, _ := id.RunPartition(z.fires[fire])
	return strconv.FormatInt((at.UnixMilli()-1704067200000)<<22|int64(partition)<<14, 10)
}
