package redisconn

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// errNotFound is what asynq's done answers for a task that is not active.
var errNotFound = errors.New("NOT FOUND")

// Done is the hook of an asynq server's client that folds the ends of tasks: those
// that end at about the same time are taken out of their queue in one call.
type Done struct{ Fold *Fold }

// DialHook leaves dialling alone.
func (d Done) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (d Done) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook answers asynq's done.
func (d Done) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		answer, ok := cmd.(*redis.Cmd)
		if !ok || !isScript(cmd, asynqDone) || len(cmd.Args()) != 11 {
			return next(ctx, cmd)
		}
		// EVALSHA sha 5 active lease task-key day total id end-of-day greatest
		args := cmd.Args()
		keys := []string{fmt.Sprint(args[3]), fmt.Sprint(args[4]), fmt.Sprint(args[6]), fmt.Sprint(args[7])}
		found, err := d.Fold.Run(ctx, doneScript, keys, args[5], args[8], args[9], args[10])
		if n, _ := found.(int64); err == nil && n == 0 {
			err = errNotFound
		}
		if err != nil {
			cmd.SetErr(err)
			return err
		}
		answer.SetVal("OK")
		return nil
	}
}
