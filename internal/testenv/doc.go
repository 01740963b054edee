// Package testenv gives tests the real servers Takt runs on, private to each
// test and fast enough for every test to have its own:
//
//	redis := testenv.Redis(t)       // a redis-server child, about 20 ms
//	client := redis.Client(t)
//	nats := testenv.NATS(t)         // NATS with JetStream, in this process
//
// Cluster and Sentinel start six real processes each, whose master can be killed:
//
//	cluster := testenv.Cluster(t)
//	killed, back := cluster.FailOver(key)
//
// Fault tests kill, stop, freeze and restart them; they come back under the
// same URL with what was on disk. Everything ends with the test.
//
// Tests do not sleep: Eventually waits for a condition and is the one place
// that polls. SameSlot watches a client for scripts that Redis Cluster would
// refuse, and WantNoScan a server for commands that walk through the keyspace.
package testenv
