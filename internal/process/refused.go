package process

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/redisconn"
)

// checkLogin is what to do when Redis is there and does not let us in.
const checkLogin = "check redis.username and redis.password against the server's users; processes keep asking"

// refusals begin the answers of a Redis that knows us not: a wrong password or user, none
// where one is needed, a user who is switched off or may not even ping, a password where
// the server has none.
var refusals = []string{"WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid password", "ERR AUTH", "ERR Client sent AUTH"}

// refuses reports whether err says that Redis answers and does not let us in.
func refuses(err error) bool {
	return err != nil && slices.ContainsFunc(refusals, func(p string) bool { return redis.HasErrorPrefix(err, p) })
}

// tellWaiting logs why the start waits: an outage ends by itself, a refusal does not.
func (b *base) tellWaiting(ctx context.Context, err error) {
	url, why := redisconn.Redact(b.cfg.Redis.URL), cause(err)
	if refuses(err) {
		b.log.WarnContext(ctx, "Redis refuses this process's user or password", "url", url, "user", b.cfg.Redis.Username, "err", why, "do", checkLogin)
		return
	}
	b.log.WarnContext(ctx, "waiting for Redis", "url", url, "err", why)
}

// unopened is the finding for a Redis that could not be connected to.
func unopened(err error) redisconn.Finding {
	if !refuses(err) {
		return redisconn.Unreachable(err)
	}
	return redisconn.Finding{
		Severity: redisconn.Problem, Check: "connection", Text: fmt.Sprintf("redis answers and refuses this user or password: %v", err),
		Do: "check redis.username and redis.password (or those in redis.url) against the server's users; a process with the same ones is refused too",
	}
}
