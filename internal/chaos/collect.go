package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/chaos/judge"
	"github.com/takt-dev/takt/pkg/client"
)

// readRuns reads every run with its steps through the API.
func readRuns(ctx context.Context, c *client.Client) (map[string]client.RunDetail, error) {
	out := map[string]client.RunDetail{}
	for r, err := range c.Runs(ctx, client.RunFilter{}) {
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		if out[r.ID], err = c.Run(ctx, r.ID); err != nil {
			return nil, fmt.Errorf("read run: %w", err)
		}
	}
	return out, nil
}

// openRuns counts the runs that have not ended.
func openRuns(ctx context.Context, c *client.Client) (int, error) {
	n := 0
	f := client.RunFilter{States: []client.RunState{client.RunPending, client.RunRunning, client.RunCanceling}}
	for _, err := range c.Runs(ctx, f) {
		if err != nil {
			return 0, fmt.Errorf("list runs: %w", err)
		}
		n++
	}
	return n, nil
}

// readTriggers reads the ledgers of all triggers.
func readTriggers(ctx context.Context, c *client.Client, s *scene, ahead time.Duration) ([]judge.Trigger, error) {
	var out []judge.Trigger
	for _, q := range append(s.triggers[:len(s.triggers):len(s.triggers)], s.byHand) {
		t := judge.Trigger{
			UUID: q.trigger.UUID, Name: q.trigger.Name, Every: q.every, Targets: 1, Enabled: q.enabled, Disabled: q.disabled, Ahead: ahead,
		}
		for page := (client.LedgerPage{Limit: 500}); ; {
			l, err := c.Ledger(ctx, t.UUID, page)
			if err != nil {
				return nil, fmt.Errorf("read ledger: %w", err)
			}
			t.Entries = append(t.Entries, l.Entries...)
			if l.Skip == 0 {
				break
			}
			page.Skip = l.Skip
		}
		out = append(out, t)
	}
	return out, nil
}

// leftovers gives what is unfinished in Redis: each line is one kind in one
// partition. After calm there is to be none.
func leftovers(ctx context.Context, rdb *redis.Client, partitions int) ([]string, error) {
	var out []string
	for n := range partitions {
		for _, root := range []string{fmt.Sprintf("takt:{p:%d}:", n), fmt.Sprintf("takt:{t:%d}:", n)} {
			for _, set := range []string{"outbox", "sent", "parked", "undecided"} {
				some, err := rdb.ZRange(ctx, root+set, 0, 2).Result()
				if err != nil {
					return nil, fmt.Errorf("read %s: %w", root+set, err)
				}
				if len(some) > 0 {
					out = append(out, fmt.Sprintf("%s%s holds %v", root, set, some))
				}
			}
		}
		more, err := partitionLeftovers(ctx, rdb, fmt.Sprintf("takt:{p:%d}:", n))
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// partitionLeftovers looks at the attempts under way, the timers and the places of
// runs in a partition.
func partitionLeftovers(ctx context.Context, rdb *redis.Client, root string) ([]string, error) {
	var out []string
	live, err := rdb.HKeys(ctx, root+"live").Result()
	if err != nil {
		return nil, fmt.Errorf("read %slive: %w", root, err)
	}
	if len(live) > 0 {
		out = append(out, fmt.Sprintf("%slive holds %v", root, live))
	}
	// A counter that has drifted would have admissions refused for ever.
	waiting, err := rdb.Get(ctx, root+"waiting").Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read %swaiting: %w", root, err)
	}
	if waiting != 0 {
		out = append(out, fmt.Sprintf("%swaiting is %d", root, waiting))
	}
	timers, err := rdb.ZRange(ctx, root+"timers", 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read %stimers: %w", root, err)
	}
	for _, t := range timers {
		kind, rest, _ := strings.Cut(t, "|")
		switch kind {
		case "plan", "log":
		case "forget":
			if n, err := rdb.Exists(ctx, root+"run:"+rest).Result(); err != nil || n == 0 {
				out = append(out, fmt.Sprintf("%stimers holds %s, whose run is not there", root, t))
			}
		default:
			out = append(out, fmt.Sprintf("%stimers holds %s", root, t))
		}
	}
	for _, kind := range []string{"act", "buf", "busy"} {
		keys, err := rdb.Keys(ctx, strings.NewReplacer("{", `\{`, "}", `\}`).Replace(root)+kind+":*").Result()
		if err != nil {
			return nil, fmt.Errorf("list %s%s: %w", root, kind, err)
		}
		if len(keys) > 0 {
			out = append(out, fmt.Sprintf("%v are left", keys))
		}
	}
	return out, nil
}

// use reads what a process uses from its metrics.
func use(ctx context.Context, addr string) (judge.Use, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return judge.Use{}, fmt.Errorf("read metrics: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return judge.Use{}, fmt.Errorf("read metrics: %w", err)
	}
	defer res.Body.Close()
	var u judge.Use
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "go_goroutines":
			u.Goroutines = n
		case name == "process_resident_memory_bytes":
			u.Memory = n
		}
	}
	if u.Goroutines == 0 || u.Memory == 0 {
		return u, fmt.Errorf("read metrics of %s: they tell neither goroutines nor memory", addr)
	}
	return u, nil
}
