package store

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// checkTasks looks for CBT tasks that wait for what does not come: a run that has ended
// without being applied, one that nobody is to admit, or a look that nobody is to begin.
func (w *walk) checkTasks(ctx context.Context) error {
	tasks, more, err := w.rdb.SScan(ctx, w.root+":cbts", 0, "", sample).Result()
	if err != nil || len(tasks) == 0 {
		return err
	}
	w.Stopped = w.Stopped || more != 0 || len(tasks) > sample
	tasks = firstOf(tasks, sample)
	pipe := w.rdb.Pipeline()
	rows := make([]*redis.SliceCmd, len(tasks))
	owed, watched := make([]*redis.FloatCmd, len(tasks)), make([]*redis.FloatCmd, len(tasks))
	for k, task := range tasks {
		rows[k] = pipe.HMGet(ctx, w.root+":cbt:"+task, "st", "prun")
		owed[k], watched[k] = pipe.ZScore(ctx, w.root+":outbox", "cbt|"+task), pipe.ZScore(ctx, w.root+":timers", "cbt|"+task)
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	runs := map[string]*redis.StringCmd{}
	pipe = w.rdb.Pipeline()
	for k, task := range tasks {
		status, run := text(rows[k].Val()[0]), text(rows[k].Val()[1])
		switch {
		case status == "":
			w.found(core.OrphanTask, "cbts", task, "the task is listed and gone")
		case run != "" && owed[k].Err() != nil:
			runs[task] = pipe.HGet(ctx, w.root+":run:"+run, "st")
		case run == "" && status == string(core.CBTRunning) && watched[k].Err() != nil:
			w.found(core.OrphanTask, "cbt:"+task, task, "the task is Running and nobody is to look at its sessions")
		}
	}
	if len(runs) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for task, state := range runs {
		if !(runMarks{state: state.Val()}).open() {
			w.found(core.OrphanTask, "cbt:"+task, task, "the run that it waits for has ended or is gone, and nobody is to make it")
		}
	}
	return nil
}
