package redisconn

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	rows := []struct {
		name, url string
		want      target
	}{
		{"host only", "redis://localhost", target{addrs: []string{"localhost:6379"}}},
		{"all parts", "redis://me:p%40ss@r.example:7000/3", target{addrs: []string{"r.example:7000"}, username: "me", password: "p@ss", db: 3}},
		{"password only, db in query", "redis://:pw@h?db=2", target{addrs: []string{"h:6379"}, password: "pw", db: 2}},
		{"unescaped / and @ in the password", "redis://me:a/b@c@h:1/4", target{addrs: []string{"h:1"}, username: "me", password: "a/b@c", db: 4}},
		{"IPv6", "redis://[::1]:6380/1", target{addrs: []string{"[::1]:6380"}, db: 1}},
		{"IPv6 without port", "redis://[::1]", target{addrs: []string{"[::1]:6379"}}},
		{"TLS", "rediss://h/", target{tls: true, addrs: []string{"h:6379"}}},
		{"unix socket", "unix://me:pw@/run/redis%20a.sock?db=5", target{kind: unixSocket, addrs: []string{"/run/redis a.sock"}, username: "me", password: "pw", db: 5}},
		{"sentinel, master in path", "redis-sentinel://me:pw@a,b:5/mymaster/2", target{kind: sentinel, addrs: []string{"a:26379", "b:5"}, username: "me", password: "pw", master: "mymaster", db: 2}},
		{"sentinel, all in query", "rediss-sentinel://a?master=m&db=1&sentinelUsername=s&sentinelPassword=t", target{kind: sentinel, tls: true, addrs: []string{"a:26379"}, master: "m", db: 1, sentinelUsername: "s", sentinelPassword: "t"}},
		{"cluster", "redis-cluster://me:pw@a:1,b:2,c", target{kind: cluster, addrs: []string{"a:1", "b:2", "c:6379"}, username: "me", password: "pw"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, err := parseURL(row.url)
			if err != nil {
				t.Fatalf("parseURL(%q): %v", row.url, err)
			}
			if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(target{})); diff != "" {
				t.Errorf("parseURL(%q) (-want +got):\n%s", row.url, diff)
			}
		})
	}
}

func TestParseURLErrors(t *testing.T) {
	rows := []struct{ name, url, want string }{
		{"empty", "", "has to begin with"},
		{"no scheme", "localhost:6379", "has to begin with"},
		{"other scheme", "http://h", "has to begin with"},
		{"no host", "redis://", "a host is missing"},
		{"no host in list", "redis-cluster://a,,b", "a host is missing"},
		{"port", "redis://h:port", "port is not a number"},
		{"port 0", "redis://h:0", "port is not a number"},
		{"database", "redis://h/one", "the database has to be a number"},
		{"negative database", "redis://h?db=-1", "the database has to be a number"},
		{"several hosts", "redis://a,b", "several hosts need"},
		{"sentinel without master", "redis-sentinel://a", "the master's name is missing"},
		{"cluster database", "redis-cluster://a/1", "database 0 only"},
		{"relative socket", "unix://run/redis.sock", "has to be absolute"},
		{"unknown parameter", "redis://h?poolsize=3", `unknown query parameter "poolsize"`},
		{"sentinel parameter elsewhere", "redis://h?master=m", "belong to redis-sentinel"},
		{"broken escape", "redis://:%zz@h", "broken percent escape"},
		{"password with ?", "redis://:hun?ter2@h", "percent form"},
		{"password with a port in it", "redis://:hunter2:x/y@h:z", "port is not a number"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := parseURL(row.url)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("parseURL(%q): %v, want an error with %q", row.url, err, row.want)
			}
			if strings.Contains(err.Error(), "ter2") {
				t.Errorf("the error holds the password: %v", err)
			}
			if ValidURL(row.url) == nil {
				t.Errorf("ValidURL(%q) = nil", row.url)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	rows := []struct{ name, in, want string }{
		{"nothing secret", "redis://h:1/0", "redis://h:1/0"},
		{"user and password", "redis://me:pw@h:1/0", "redis://me:***@h:1/0"},
		{"password only", "redis://:pw@h", "redis://:***@h"},
		{"token", "nats://token@h", "nats://***@h"},
		{"odd password", "redis://me:a/b?c@d@h/0", "redis://me:***@h/0"},
		{"query", "redis-sentinel://h/m?db=1&sentinelPassword=pw", "redis-sentinel://h/m?db=1&sentinelPassword=***"},
		{"no scheme", "me:pw@h", "me:***@h"},
		{"empty", "", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := Redact(row.in); got != row.want {
				t.Errorf("Redact(%q) = %q, want %q", row.in, got, row.want)
			}
		})
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"redis://a:b@c/1", "unix:///x?db=1", "redis-sentinel://a,b/m/1", "redis-cluster://[::1]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		Redact(s)
		got, err := parseURL(s)
		if err == nil && (len(got.addrs) == 0 || got.db < 0) {
			t.Errorf("parseURL(%q) = %+v", s, got)
		}
		const secret = "hunter2"
		if _, err := parseURL("redis://:" + secret + "@" + s); err != nil && strings.Contains(err.Error(), secret) && !strings.Contains(s, secret) {
			t.Errorf("the error holds the password: %v", err)
		}
	})
}
