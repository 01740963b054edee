package testenv

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// SameSlot returns a hook that fails the test when a script, or a MULTI
// transaction, names keys of more than one hash tag: Redis Cluster would refuse
// it. The commands themselves are carried out all the same.
func SameSlot(t testing.TB) redis.Hook {
	return sameSlot{t}
}

type sameSlot struct{ t testing.TB }

func (s sameSlot) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

func (s sameSlot) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.check(cmd.Name(), scriptKeys(cmd))
		return next(ctx, cmd)
	}
}

func (s sameSlot) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			s.check(cmd.Name(), scriptKeys(cmd))
		}
		if len(cmds) > 0 && cmds[0].Name() == "multi" {
			s.check("transaction", transactionKeys(cmds))
		}
		return next(ctx, cmds)
	}
}

func (s sameSlot) check(what string, keys []string) {
	for _, key := range keys[min(1, len(keys)):] {
		if slotName(key) != slotName(keys[0]) {
			s.t.Errorf("%s names keys of several hash slots: %q", what, keys)
			return
		}
	}
}

// scriptKeys returns the KEYS of a script or function call, nil for any other command.
func scriptKeys(cmd redis.Cmder) []string {
	switch cmd.Name() {
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro":
	default:
		return nil
	}
	args := cmd.Args()
	if len(args) < 3 {
		return nil
	}
	count, ok := args[2].(int)
	if !ok || count > len(args)-3 {
		return nil
	}
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprint(args[3+i])
	}
	return keys
}

// transactionKeys returns the keys of all commands between MULTI and EXEC: the
// first argument of each, which is the key in all that Takt puts there.
func transactionKeys(cmds []redis.Cmder) (keys []string) {
	for _, cmd := range cmds[1 : len(cmds)-1] {
		if script := scriptKeys(cmd); script != nil {
			keys = append(keys, script...)
		} else if args := cmd.Args(); len(args) > 1 {
			keys = append(keys, fmt.Sprint(args[1]))
		}
	}
	return keys
}

// slotName returns the part of a key that decides its slot: what stands in the
// first {braces}, or the whole key.
func slotName(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			return tag
		}
	}
	return key
}
