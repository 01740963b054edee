package testenv

import (
	"context"
	"strings"
	"time"
)

// WantNoScan fails the test when a client or a script has walked through the
// keyspace since the server's start or the last ForgetScans. Nothing of Takt may:
// its time would grow with everything that is kept. A server that is not there
// says nothing.
func (r *RedisServer) WantNoScan() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	stats, err := r.Client(r.t).InfoMap(ctx, "commandstats").Result()
	if err != nil {
		return
	}
	for _, of := range stats {
		for _, command := range []string{"keys", "scan", "randomkey"} {
			if calls, ok := of["cmdstat_"+command]; ok {
				calls, _, _ = strings.Cut(calls, ",")
				r.t.Errorf("the keyspace was walked through: %s, %s", strings.ToUpper(command), calls)
			}
		}
	}
}

// ForgetScans is for a test that walks through the keyspace itself.
func (r *RedisServer) ForgetScans() {
	r.t.Helper()
	if err := r.Client(r.t).ConfigResetStat(r.t.Context()).Err(); err != nil {
		r.t.Fatalf("reset statistics: %v", err)
	}
}
