// Package testenv gives tests the real servers Takt runs on, private to each
// test and fast enough for every test to have its own:
//
//	redis := testenv.Redis(t)       // a redis-server child, about 20 ms
//	client := redis.Client(t)
//	nats := testenv.NATS(t)         // NATS with JetStream, in this process
//
// Fault tests kill, stop, freeze and restart them; they come back under the
// same URL with what was on disk. Everything ends with the test.
//
// Tests do not sleep: Eventually waits for a condition and is the one place
// that polls. SameSlot watches a client for scripts that Redis Cluster would
// refuse.
package testenv
