// Package redisconn is the only home of connection code for Redis: from a URL
// to a client, and what Takt teaches that client through go-redis' hooks.
//
//	Open        URL and TLS files → a client that has answered a PING
//	Doctor      is this Redis fit to hold Takt's records?
//	Bell        lets an asynq server sleep until there is work
//	Prefetch    lets one round trip of an asynq server bring several tasks
//	Fold        group commit: what many goroutines ask of a script goes in one call
//	Gather      lets asynq's client enqueue many tasks at once, also behind a script
//	Done        folds the ends of tasks
//
// # URLs
//
//	redis://user:password@host:6379/0            one server
//	unix://user:password@/run/redis.sock?db=0    one server on this machine
//	redis-sentinel://user:password@h1:26379,h2:26379/master/0
//	redis-cluster://user:password@h1:6379,h2:6379
//
// rediss, rediss-sentinel and rediss-cluster speak TLS. Special characters of a
// password are written in percent form. The port may be left out. The query may
// name db, and for Sentinel also master, sentinelUsername and sentinelPassword.
//
// No error and no log line of this package holds a password; Redact does the
// same for others.
package redisconn
