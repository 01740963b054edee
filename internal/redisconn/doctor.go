package redisconn

import (
	"context"
	"fmt"
	"strings"

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
	// Check names what was looked at: connection, version, memory, room,
	// persistence, replicas, clock, latency, clients, scripts, shape or sentinel.
	Check string
	// Text says what was found; Do says how to mend it and is "" for OK.
	Text, Do string
}

// Examine is Doctor plus what only the URL tells: the Sentinels it names are
// asked whether they could fail over.
func Examine(ctx context.Context, c Config, client redis.UniversalClient) []Finding {
	findings := Doctor(ctx, client)
	if t, err := parseURL(c.URL); err == nil && t.kind == sentinel {
		findings = append(findings, sentinels(ctx, c, t))
	}
	return findings
}

// Doctor looks at the Redis behind client and returns a Finding for each check,
// the good ones included, in a fixed order. Of a cluster each master is
// checked. A server that does not answer is a Problem too, so there is no error.
func Doctor(ctx context.Context, client redis.UniversalClient) []Finding {
	clustered, ok := client.(*redis.ClusterClient)
	if !ok {
		return examine(ctx, client, false)
	}
	findings := []Finding{clusterState(ctx, client), clusterReplicas(ctx, client)}
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
		return append(findings, Unreachable(err))
	}
	return append(findings, <-found...)
}

// examine checks one server, which is spoken to as a member of a cluster or alone.
func examine(ctx context.Context, client redis.UniversalClient, member bool) []Finding {
	raw, err := client.Info(ctx).Result()
	if err != nil && (ctx.Err() != nil || client.Ping(ctx).Err() != nil) {
		return []Finding{Unreachable(err)}
	}
	info := parseInfo(raw)
	return []Finding{
		version(info),
		memory(info),
		room(info),
		persistence(ctx, client, info),
		replicas(info),
		clock(ctx, client),
		latency(ctx, client),
		clients(info),
		scripts(ctx, client),
		shape(info, member),
	}
}

// Unreachable is the Finding for a Redis that cannot be spoken to.
func Unreachable(err error) Finding {
	return Finding{Problem, "connection", fmt.Sprintf("redis does not answer: %v", err), "start redis, or check URL, network, user and password"}
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
