package testenv

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// masterName is what the sentinels call their master.
const masterName = "takt"

// failOverWithin bounds the wait for a fail-over. It takes two to five seconds.
const failOverWithin = 30 * time.Second

// A RedisSentinel is a master with two replicas, watched by three sentinels. It
// is in memory: what a killed master had not sent to a replica is lost.
type RedisSentinel struct {
	// URL is where clients connect: redisconn.Open takes it.
	URL string

	t         testing.TB
	data      []*node // master and replicas; the roles change
	sentinels []*node
}

// Sentinel starts the six processes and returns when the sentinels know each
// other and the replicas follow.
func Sentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{t: t}
	conf := "requirepass " + nodePassword + "\nmasterauth " + nodePassword + "\nrepl-diskless-sync-delay 0"
	master := startNode(t, conf)
	s.data = []*node{master}
	for range 2 {
		s.data = append(s.data, startNode(t, conf+"\nreplicaof "+spaced(master.addr)))
	}
	master.replicated(t, 2)
	conf = fmt.Sprintf("sentinel monitor %[1]s %[2]s 2\nsentinel auth-pass %[1]s %[3]s\n"+
		"sentinel down-after-milliseconds %[1]s 1000\nsentinel failover-timeout %[1]s 6000\nrequirepass %[3]s\nsentinel sentinel-pass %[3]s",
		masterName, spaced(master.addr), nodePassword)
	var hosts []string
	for range 3 {
		n := startNode(t, conf, "--sentinel")
		s.sentinels = append(s.sentinels, n)
		hosts = append(hosts, n.addr)
	}
	s.URL = fmt.Sprintf("redis-sentinel://:%[1]s@%[2]s/%[3]s?sentinelPassword=%[1]s", nodePassword, strings.Join(hosts, ","), masterName)
	Eventually(t, startTimeout, s.complete)
	return s
}

// spaced writes an address as Redis' configuration wants it.
func spaced(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return host + " " + port
}

// complete returns nil when each sentinel knows the two others and the replicas.
func (s *RedisSentinel) complete() error {
	for _, n := range s.sentinels {
		reply, err := n.client.Do(s.t.Context(), "SENTINEL", "MASTER", masterName).StringSlice()
		if err != nil {
			return err
		}
		state := map[string]string{}
		for i := 0; i+1 < len(reply); i += 2 {
			state[reply[i]] = reply[i+1]
		}
		if state["num-other-sentinels"] != "2" || state["num-slaves"] != "2" || state["flags"] != "master" {
			return fmt.Errorf("sentinel %s knows %s sentinels and %s replicas of a %s", n.addr, state["num-other-sentinels"], state["num-slaves"], state["flags"])
		}
	}
	return nil
}

// master gives the process that the sentinels call the master, nil if they name
// one that was killed.
func (s *RedisSentinel) master() *node {
	for _, n := range s.sentinels {
		reply, err := n.client.Do(s.t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).StringSlice()
		if err != nil || len(reply) != 2 {
			return nil
		}
		for _, d := range s.data {
			if d.addr == net.JoinHostPort(reply[0], reply[1]) && !d.ended() {
				return d
			}
		}
	}
	return nil
}

// Replicated returns when the replicas have all that was acknowledged so far.
func (s *RedisSentinel) Replicated() {
	s.t.Helper()
	s.master().replicated(s.t, len(s.data)-1)
}

// CutReplicas ends replication: what is acknowledged from now on is lost with the
// master.
func (s *RedisSentinel) CutReplicas() {
	s.t.Helper()
	master := s.master()
	var replicas []*node
	for _, n := range s.data {
		if n != master {
			replicas = append(replicas, n)
		}
	}
	master.cutOff(s.t, replicas)
}

// FailOver ends the master as kill -9 does and returns when another one takes
// writes: how long that took, and since when it is so.
func (s *RedisSentinel) FailOver() (killed, back time.Time) {
	s.t.Helper()
	s.master().kill()
	killed = time.Now()
	Eventually(s.t, failOverWithin, func() error {
		master := s.master()
		if master == nil {
			return fmt.Errorf("the sentinels have not named another master")
		}
		role, err := master.info(s.t, "replication", "role")
		if err == nil && role != "master" {
			err = fmt.Errorf("%s is still a %s", master.addr, role)
		}
		return err
	})
	return killed, time.Now()
}
