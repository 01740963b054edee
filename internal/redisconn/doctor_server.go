package redisconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Clock skew bounds: the trigger publishes by its own clock, while leases and
// losses are judged by Redis'.
const (
	skewWarning = 200 * time.Millisecond
	skewProblem = 2 * time.Second
)

// Bounds of the slowest of pings: a lease lasts 3 s, and each step of a run
// costs round trips.
const (
	pings          = 50
	latencyWarning = 50 * time.Millisecond
	latencyProblem = time.Second
)

// Shares of maxmemory and maxclients in use.
const (
	fullWarning = 0.75
	fullProblem = 0.95
)

// forkWarning is a stop of the server, for the fork of a rewrite, that clients notice.
const forkWarning = 500 * time.Millisecond

// oldest is the first version with all commands asynq and Takt use.
var oldest = [2]int{6, 2}

func version(info map[string]string) Finding {
	text := info["redis_version"]
	majorText, rest, _ := strings.Cut(text, ".")
	minorText, _, _ := strings.Cut(rest, ".")
	major, err1 := strconv.Atoi(majorText)
	minor, err2 := strconv.Atoi(minorText)
	switch {
	case errors.Join(err1, err2) != nil:
		return Finding{Warning, "version", "the version cannot be read", "allow this user the INFO command, or make sure that it is 6.2 or later"}
	case major < oldest[0] || major == oldest[0] && minor < oldest[1]:
		return Finding{Problem, "version", "redis " + text + " is too old", "use redis 6.2 or later"}
	}
	return Finding{OK, "version", "redis " + text, ""}
}

func memory(info map[string]string) Finding {
	const do = "set maxmemory-policy noeviction: with any other policy a full redis drops runs and tasks silently"
	switch policy := info["maxmemory_policy"]; policy {
	case "noeviction":
		return Finding{OK, "memory", "maxmemory-policy is noeviction", ""}
	case "":
		return Finding{Warning, "memory", "maxmemory-policy cannot be read", do}
	default:
		return Finding{Problem, "memory", "maxmemory-policy is " + policy, do}
	}
}

// room judges how much of maxmemory is left: with noeviction a full Redis
// refuses every write.
func room(info map[string]string) Finding {
	used, limit := number(info, "used_memory"), number(info, "maxmemory")
	if info["used_memory"] == "" {
		return Finding{Warning, "room", "memory in use cannot be read", "allow this user the INFO command"}
	}
	if limit == 0 {
		return Finding{OK, "room", mebibytes(used) + " in use, maxmemory is not set", ""}
	}
	share := float64(used) / float64(limit)
	text := fmt.Sprintf("%s of %s in use (%.0f %%)", mebibytes(used), mebibytes(limit), 100*share)
	const do = "raise maxmemory, or shorten api.retention.runs: a full redis refuses writes"
	switch {
	case share >= fullProblem:
		return Finding{Problem, "room", text, do}
	case share >= fullWarning:
		return Finding{Warning, "room", text, do}
	}
	return Finding{OK, "room", text, ""}
}

func number(info map[string]string, name string) int64 {
	n, _ := strconv.ParseInt(info[name], 10, 64)
	return n
}

func mebibytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB" }

func persistence(ctx context.Context, client redis.UniversalClient, info map[string]string) Finding {
	switch info["aof_enabled"] {
	case "1":
	case "0":
		return Finding{Problem, "persistence", "there is no append-only file", "set appendonly yes and appendfsync always: without them acknowledged requests are lost when redis ends"}
	default:
		return Finding{Warning, "persistence", "persistence cannot be read", "make sure of appendonly yes and appendfsync always"}
	}
	if status := info["aof_last_write_status"]; status != "" && status != "ok" {
		return Finding{Problem, "persistence", "the last write of the append-only file failed", "look at redis' log and at the disk"}
	}
	if f, bad := diskTrouble(info); bad {
		return f
	}
	// Who may not read the configuration is told so, without advice to set what may be set.
	const unseen = "append-only file; appendfsync could not be read, since this user may not use CONFIG: an administrator sees it by CONFIG GET appendfsync, and always is what it should be"
	const do = "set appendfsync always where an acknowledged request must outlive a crash of the machine"
	switch fsync := client.ConfigGet(ctx, "appendfsync").Val()["appendfsync"]; fsync {
	case "always":
		return Finding{OK, "persistence", "append-only file, appendfsync always", ""}
	case "":
		return Finding{OK, "persistence", unseen, ""}
	case "everysec":
		return Finding{Warning, "persistence", "append-only file, appendfsync everysec: the last second may be lost with the machine", do}
	default:
		return Finding{Problem, "persistence", "append-only file, appendfsync " + fsync + ": what the system has not written yet is lost with the machine", do}
	}
}

// diskTrouble finds what will become a loss: files that cannot be rewritten, and
// forks so slow that everybody waits for them.
func diskTrouble(info map[string]string) (Finding, bool) {
	if status := info["aof_last_bgrewrite_status"]; status != "" && status != "ok" {
		return Finding{Problem, "persistence", "the last rewrite of the append-only file failed: it grows for ever", "look at redis' log, at free disk space and at vm.overcommit_memory (set it to 1)"}, true
	}
	if status := info["rdb_last_bgsave_status"]; status != "" && status != "ok" {
		return Finding{Problem, "persistence", "the last snapshot failed: redis refuses writes while stop-writes-on-bgsave-error is set", "look at redis' log, at free disk space and at vm.overcommit_memory (set it to 1)"}, true
	}
	if fork := time.Duration(number(info, "latest_fork_usec")) * time.Microsecond; fork >= forkWarning {
		return Finding{Warning, "persistence", fmt.Sprintf("the last fork stopped redis for %v", fork), "switch transparent huge pages off on redis' machine, or give it a faster one"}, true
	}
	return Finding{}, false
}

func clock(ctx context.Context, client redis.UniversalClient) Finding {
	before := time.Now()
	theirs, err := client.Time(ctx).Result()
	if err != nil {
		return Finding{Problem, "clock", fmt.Sprintf("TIME failed: %v", err), "allow this user the TIME command"}
	}
	return skew(theirs.Sub(before.Add(time.Since(before) / 2)))
}

// skew judges by how much redis' clock is ahead of ours.
func skew(ahead time.Duration) Finding {
	const do = "let all machines follow one time server (chrony, ntpd)"
	text := fmt.Sprintf("redis' clock differs from this machine's by %v", ahead.Abs().Round(time.Millisecond))
	switch {
	case ahead.Abs() >= skewProblem:
		return Finding{Problem, "clock", text, do}
	case ahead.Abs() >= skewWarning:
		return Finding{Warning, "clock", text, do}
	}
	return Finding{OK, "clock", text, ""}
}

// latency measures round trips one after another, as a step's own are.
func latency(ctx context.Context, client redis.UniversalClient) Finding {
	took := make([]time.Duration, pings)
	for i := range took {
		began := time.Now()
		if err := client.Ping(ctx).Err(); err != nil {
			return Finding{Problem, "latency", fmt.Sprintf("PING failed: %v", err), "look at the network between here and redis"}
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return slowness(took[pings*99/100], took[pings/2])
}

func slowness(p99, median time.Duration) Finding {
	const do = "look at the network, at SLOWLOG, and at the disk if appendfsync is always: leases last 3 s and each step costs round trips"
	text := fmt.Sprintf("a round trip takes %v, the slowest of %d took %v", median.Round(10*time.Microsecond), pings, p99.Round(10*time.Microsecond))
	switch {
	case p99 >= latencyProblem:
		return Finding{Problem, "latency", text, do}
	case p99 >= latencyWarning:
		return Finding{Warning, "latency", text, do}
	}
	return Finding{OK, "latency", text, ""}
}

// clients judges how many more connections Redis takes. Redis before 7 does not
// tell its limit in INFO.
func clients(info map[string]string) Finding {
	connected, limit := number(info, "connected_clients"), number(info, "maxclients")
	if limit == 0 {
		return Finding{OK, "clients", fmt.Sprintf("%d connections", connected), ""}
	}
	share := float64(connected) / float64(limit)
	text := fmt.Sprintf("%d of %d connections", connected, limit)
	const do = "raise maxclients (and the open files redis may have), or lower redis.poolSize of the processes"
	switch {
	case share >= fullProblem:
		return Finding{Problem, "clients", text, do}
	case share >= fullWarning:
		return Finding{Warning, "clients", text, do}
	}
	return Finding{OK, "clients", text, ""}
}

func scripts(ctx context.Context, client redis.UniversalClient) Finding {
	script := redis.NewScript("return 1")
	err := script.Load(ctx, client).Err()
	if err == nil {
		err = script.EvalSha(ctx, client, nil).Err()
	}
	if err != nil {
		return Finding{Problem, "scripts", fmt.Sprintf("scripts do not run: %v", err), "allow this user EVAL, EVALSHA and SCRIPT LOAD; a proxy before redis may not support them"}
	}
	return Finding{OK, "scripts", "scripts run", ""}
}
