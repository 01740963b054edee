package redisconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Severity says how bad a Finding is.
type Severity string

// Severities. With a Problem Takt may lose or repeat work; a Warning is a risk
// to know about.
const (
	OK      Severity = "ok"
	Warning Severity = "warning"
	Problem Severity = "problem"
)

// A Finding is the outcome of one check of Doctor.
type Finding struct {
	Severity Severity
	// Check names what was looked at: connection, version, memory,
	// persistence, clock, scripts or shape.
	Check string
	// Text says what was found; Do says how to mend it and is "" for OK.
	Text, Do string
}

// Clock skew bounds: the trigger publishes by its own clock, while leases and
// losses are judged by Redis'.
const (
	skewWarning = 200 * time.Millisecond
	skewProblem = 2 * time.Second
)

// oldest is the first version with all commands asynq and Takt use.
var oldest = [2]int{6, 2}

// Doctor looks at the Redis behind client and returns a Finding for each check,
// the good ones included, in a fixed order. Of a cluster each master is
// checked. A server that does not answer is a Problem too, so there is no error.
func Doctor(ctx context.Context, client redis.UniversalClient) []Finding {
	clustered, ok := client.(*redis.ClusterClient)
	if !ok {
		return examine(ctx, client, false)
	}
	findings := []Finding{clusterState(ctx, client)}
	found := make(chan []Finding, 1) // one at a time: ForEachMaster runs in parallel
	found <- nil
	err := clustered.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		of := examine(ctx, master, true)
		for i := range of {
			of[i].Text = master.Options().Addr + ": " + of[i].Text
		}
		found <- append(<-found, of...)
		return nil
	})
	if err != nil {
		return append(findings, unreachable(err))
	}
	return append(findings, <-found...)
}

// examine checks one server, which is spoken to as a member of a cluster or alone.
func examine(ctx context.Context, client redis.UniversalClient, member bool) []Finding {
	raw, err := client.Info(ctx).Result()
	if err != nil && (ctx.Err() != nil || client.Ping(ctx).Err() != nil) {
		return []Finding{unreachable(err)}
	}
	info := parseInfo(raw)
	return []Finding{
		version(info),
		memory(info),
		persistence(ctx, client, info),
		clock(ctx, client),
		scripts(ctx, client),
		shape(info, member),
	}
}

func unreachable(err error) Finding {
	return Finding{Problem, "connection", fmt.Sprintf("redis does not answer: %v", err), "check URL, network, user and password"}
}

// parseInfo reads the fields of INFO's answer.
func parseInfo(raw string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(raw) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

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
	const do = "set appendfsync always where an acknowledged request must outlive a crash of the machine"
	switch fsync := client.ConfigGet(ctx, "appendfsync").Val()["appendfsync"]; fsync {
	case "always":
		return Finding{OK, "persistence", "append-only file, appendfsync always", ""}
	case "":
		return Finding{Warning, "persistence", "append-only file; appendfsync cannot be read", do}
	case "everysec":
		return Finding{Warning, "persistence", "append-only file, appendfsync everysec: the last second may be lost with the machine", do}
	default:
		return Finding{Problem, "persistence", "append-only file, appendfsync " + fsync + ": what the system has not written yet is lost with the machine", do}
	}
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

// shape compares what the server is with how it is spoken to.
func shape(info map[string]string, member bool) Finding {
	switch {
	case info["role"] == "slave":
		return Finding{Problem, "shape", "this server is a replica and takes no writes", "name the master, or use redis-sentinel://"}
	case info["cluster_enabled"] == "1" && !member:
		return Finding{Problem, "shape", "this server is one of a cluster", "use a redis-cluster:// URL"}
	case member:
		return Finding{OK, "shape", "a cluster's master", ""}
	}
	return Finding{OK, "shape", "single server", ""}
}

func clusterState(ctx context.Context, client redis.UniversalClient) Finding {
	raw, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return unreachable(err)
	}
	if state := parseInfo(raw)["cluster_state"]; state != "ok" {
		return Finding{Problem, "shape", "the cluster's state is " + state, "look at CLUSTER NODES: all slots need a master that is alive"}
	}
	return Finding{OK, "shape", "the cluster's state is ok", ""}
}
