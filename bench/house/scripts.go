package house

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Script is what calls of one script, or one other command, cost Redis.
type Script struct {
	Name  string // command, beginning of the script's hash, first key, number of arguments
	Calls int
	Took  time.Duration // of all calls
}

// Scripts has Redis' slow log take every command while do runs, and sums up by
// script. INFO tells only of all scripts together.
func (r *Redis) Scripts(ctx context.Context, do func() error) ([]Script, error) {
	for _, set := range [][2]string{{"slowlog-max-len", "1000000"}, {"slowlog-log-slower-than", "0"}} {
		if err := r.Client.ConfigSet(ctx, set[0], set[1]).Err(); err != nil {
			return nil, err
		}
	}
	if err := r.Client.Do(ctx, "slowlog", "reset").Err(); err != nil {
		return nil, err
	}
	err := do()
	if off := r.Client.ConfigSet(ctx, "slowlog-log-slower-than", "-1").Err(); err == nil {
		err = off
	}
	if err != nil {
		return nil, err
	}
	logs, err := r.Client.SlowLogGet(ctx, 1_000_000).Result()
	if err != nil {
		return nil, fmt.Errorf("read the slow log: %w", err)
	}
	return sumScripts(logs), nil
}

func sumScripts(logs []redis.SlowLog) []Script {
	by := map[string]*Script{}
	for _, l := range logs {
		name := scriptName(l.Args)
		s := by[name]
		if s == nil {
			s = &Script{Name: name}
			by[name] = s
		}
		s.Calls++
		s.Took += l.Duration
	}
	var out []Script
	for _, s := range by {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Script) int {
		return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(a.Name, b.Name))
	})
	return out
}

var changing = regexp.MustCompile(`[0-9a-f]{32}[^ ]*|p:\d+|t:\d+|\{vm[^}]*\}`)

func scriptName(args []string) string {
	if len(args) < 2 || args[0] != "evalsha" && args[0] != "EVALSHA" || len(args) < 4 {
		return args[0]
	}
	return fmt.Sprintf("%s %s", args[1][:min(8, len(args[1]))], changing.ReplaceAllString(args[3], "…"))
}
