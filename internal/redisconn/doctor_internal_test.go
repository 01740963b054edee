package redisconn

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

// severities returns each finding's severity by check.
func severities(findings []Finding) map[string]Severity {
	by := map[string]Severity{}
	for _, f := range findings {
		by[f.Check] = f.Severity
	}
	return by
}

func TestDoctorOnRealServers(t *testing.T) {
	fit := map[string]Severity{
		"version": OK, "memory": OK, "room": OK, "persistence": OK, "replicas": OK, "clock": OK, "latency": OK, "clients": OK, "scripts": OK, "shape": OK,
	}
	rows := []struct {
		name    string
		start   func(testing.TB) *testenv.RedisServer
		set     []string // CONFIG SET
		changed map[string]Severity
	}{
		{"as takt starts it", testenv.DurableRedis, nil, nil},
		{"no append-only file", testenv.Redis, nil, map[string]Severity{"persistence": Problem}},
		{"everysec", testenv.DurableRedis, []string{"appendfsync", "everysec"}, map[string]Severity{"persistence": Warning}},
		{"fsync no", testenv.DurableRedis, []string{"appendfsync", "no"}, map[string]Severity{"persistence": Problem}},
		{"eviction", testenv.DurableRedis, []string{"maxmemory-policy", "allkeys-lru"}, map[string]Severity{"memory": Problem}},
		{"much room", testenv.DurableRedis, []string{"maxmemory", "1gb"}, nil},
		{"full", testenv.DurableRedis, []string{"maxmemory", "1mb"}, map[string]Severity{"room": Problem}},
		{"writes need a replica", testenv.DurableRedis, []string{"min-replicas-to-write", "1"}, map[string]Severity{"replicas": Problem, "scripts": OK}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			client := row.start(t).Client(t)
			if row.set != nil {
				if err := client.ConfigSet(t.Context(), row.set[0], row.set[1]).Err(); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]Severity{}
			for check, severity := range fit {
				want[check] = severity
			}
			for check, severity := range row.changed {
				want[check] = severity
			}
			findings := Doctor(t.Context(), client)
			if diff := cmp.Diff(want, severities(findings)); diff != "" {
				t.Errorf("Doctor (-want +got):\n%s\n%+v", diff, findings)
			}
			for _, f := range findings {
				if (f.Do == "") != (f.Severity == OK) || f.Text == "" {
					t.Errorf("%+v: a finding has a text, and says what to do unless it is OK", f)
				}
			}
		})
	}
}

func TestDoctorOfALimitedUser(t *testing.T) {
	server := testenv.DurableRedis(t)
	admin := server.Client(t)
	if err := admin.ACLSetUser(t.Context(), "weak", "on", ">pw", "+ping", "~*").Err(); err != nil {
		t.Fatal(err)
	}
	options := *admin.Options()
	options.Username, options.Password = "weak", "pw"
	weak := redis.NewClient(&options)
	defer weak.Close()
	want := map[string]Severity{
		"version": Warning, "memory": Warning, "room": Warning, "persistence": Warning, "replicas": OK, "clock": Problem, "latency": OK,
		"clients": OK, "scripts": Problem, "shape": OK,
	}
	if diff := cmp.Diff(want, severities(Doctor(t.Context(), weak))); diff != "" {
		t.Errorf("Doctor (-want +got):\n%s", diff)
	}
}

// A user without CONFIG is not told to set what may be set already.
func TestDoctorDoesNotSeeAppendfsync(t *testing.T) {
	server := testenv.DurableRedis(t)
	admin := server.Client(t)
	if err := admin.ACLSetUser(t.Context(), "api", "on", ">pw", "+@all", "-config", "~*").Err(); err != nil {
		t.Fatal(err)
	}
	options := *admin.Options()
	options.Username, options.Password = "api", "pw"
	api := redis.NewClient(&options)
	defer api.Close()
	for _, f := range Doctor(t.Context(), api) {
		if f.Severity != OK {
			t.Errorf("%+v, want that all is well", f)
		}
		if f.Check == "persistence" && !strings.Contains(f.Text, "could not be read") {
			t.Errorf("%+v, want that appendfsync could not be read", f)
		}
	}
}

func TestDoctorOfADeadServer(t *testing.T) {
	server := testenv.Redis(t)
	client := server.Client(t)
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if diff := cmp.Diff(map[string]Severity{"connection": Problem}, severities(Doctor(ctx, client))); diff != "" {
		t.Errorf("Doctor (-want +got):\n%s", diff)
	}
}

func TestDoctorVerdicts(t *testing.T) {
	rows := []struct {
		name string
		got  Finding
		want Severity
	}{
		{"6.2", version(map[string]string{"redis_version": "6.2.0"}), OK},
		{"8.0", version(map[string]string{"redis_version": "8.0.1"}), OK},
		{"6.0", version(map[string]string{"redis_version": "6.0.16"}), Problem},
		{"5", version(map[string]string{"redis_version": "5.9.9"}), Problem},
		{"failed write", persistence(t.Context(), nil, map[string]string{"aof_enabled": "1", "aof_last_write_status": "err"}), Problem},
		{"failed rewrite", persistence(t.Context(), nil, map[string]string{"aof_enabled": "1", "aof_last_bgrewrite_status": "err"}), Problem},
		{"failed snapshot", persistence(t.Context(), nil, map[string]string{"aof_enabled": "1", "rdb_last_bgsave_status": "err"}), Problem},
		{"slow fork", persistence(t.Context(), nil, map[string]string{"aof_enabled": "1", "latest_fork_usec": "700000"}), Warning},
		{"half full", room(map[string]string{"used_memory": "50", "maxmemory": "100"}), OK},
		{"getting full", room(map[string]string{"used_memory": "80", "maxmemory": "100"}), Warning},
		{"few clients", clients(map[string]string{"connected_clients": "10", "maxclients": "100"}), OK},
		{"many clients", clients(map[string]string{"connected_clients": "80", "maxclients": "100"}), Warning},
		{"too many clients", clients(map[string]string{"connected_clients": "99", "maxclients": "100"}), Problem},
		{"fast", slowness(time.Millisecond, time.Millisecond), OK},
		{"slow now and then", slowness(60*time.Millisecond, time.Millisecond), Warning},
		{"slower than leases bear", slowness(2*time.Second, time.Second), Problem},
		{"replica behind", replicas(map[string]string{"connected_slaves": "1", "slave0": "ip=1,state=wait_bgsave", "min_slaves_good_slaves": "1"}), Warning},
		{"no skew", skew(-30 * time.Millisecond), OK},
		{"some skew", skew(-300 * time.Millisecond), Warning},
		{"large skew", skew(3 * time.Second), Problem},
		{"replica", shape(map[string]string{"role": "slave"}, false), Problem},
		{"cluster spoken to alone", shape(map[string]string{"cluster_enabled": "1"}, false), Problem},
		{"cluster", shape(map[string]string{"cluster_enabled": "1"}, true), OK},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.got.Severity != row.want {
				t.Errorf("finding = %+v, want severity %s", row.got, row.want)
			}
		})
	}
	if f := version(map[string]string{"redis_version": "6.0.16"}); !strings.Contains(f.Text, "6.0.16") {
		t.Errorf("the finding does not name the version: %+v", f)
	}
}
