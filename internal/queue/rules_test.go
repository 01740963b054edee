package queue

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// forbidden are the names of package asynq, and of its methods, that Takt never
// uses, each with what is used instead.
var (
	forbidden = map[string]string{
		"NewScheduler":                "the trigger processes",
		"NewSchedulerFromRedisClient": "the trigger processes",
		"Scheduler":                   "the trigger processes",
		"NewPeriodicTaskManager":      "the trigger processes",
		"PeriodicTaskManager":         "the trigger processes",
		"Unique":                      "the dispatch's own id, and overlap policies",
		"ResultWriter":                "the attempt's output",
		"ProcessAt":                   "our own timers",
		"ProcessIn":                   "our own timers",
		"Retention":                   "nothing: runs are kept in the store",
		"Group":                       "nothing",
		"SkipRetry":                   "nil: asynq would archive the task",
		"NewServeMux":                 "one handler for the one type of task",
	}
	forbiddenMethods = map[string]string{
		"CancelProcessing":           "the engine's cancel",
		"ArchiveTask":                "the step's end in the store",
		"ArchiveAllPendingTasks":     "the step's end in the store",
		"ArchiveAllRetryTasks":       "the step's end in the store",
		"ArchiveAllScheduledTasks":   "the step's end in the store",
		"ArchiveAllAggregatingTasks": "the step's end in the store",
		"ResultWriter":               "the attempt's output",
		"GetQueueInfo":               "counters: it samples memory in a script",
	}
)

// Of asynq Takt takes the transport and nothing more. The rule is about our code,
// so our code is read.
func TestForbiddenPartsOfAsynq(t *testing.T) {
	t.Parallel()
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "/bench/") {
			if uses := usesAsynq(t, path); uses {
				files++
			}
		}
		return nil
	})
	must(t, err)
	if files < 2 {
		t.Errorf("%d files import asynq; the test looks in the wrong place", files)
	}
}

// usesAsynq fails the test for each forbidden name in a file that imports asynq,
// and reports whether it does.
func usesAsynq(t *testing.T, path string) bool {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	must(t, err)
	imported := false
	for _, i := range file.Imports {
		name, _ := strconv.Unquote(i.Path.Value)
		imported = imported || name == "github.com/hibiken/asynq"
	}
	if !imported {
		return false
	}
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		names := forbiddenMethods
		if of, ok := selector.X.(*ast.Ident); ok && of.Name == "asynq" {
			names = forbidden
		}
		if instead, bad := names[selector.Sel.Name]; bad {
			t.Errorf("%s uses asynq's %s; use %s", set.Position(selector.Pos()), selector.Sel.Name, instead)
		}
		return true
	})
	return true
}

// Every task has a time-out beyond the attempt's own: without one asynq would take
// half an hour, and end tasks that take longer.
func TestTaskOutlastsItsAttempt(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	const leeway = 60 * time.Second // beside the ten an executor may take to stop
	for name, timeout := range map[string]time.Duration{"short": time.Second, "of a day": 24 * time.Hour, "not said": 0} {
		t.Run(name, func(t *testing.T) {
			d := dispatch(0, "default")
			d.Timeout = timeout
			must(t, c.Send(t.Context(), []core.Dispatch{d}))
			info, err := c.inspector.GetTaskInfo("default", d.ID())
			must(t, err)
			if timeout == 0 {
				timeout = core.MaxTimeout
			}
			if info.Timeout < timeout+leeway {
				t.Errorf("asynq ends the task after %s, its attempt may take %s", info.Timeout, timeout)
			}
			if !info.Deadline.IsZero() {
				t.Errorf("the task has a deadline, %s: it would pass while it waits", info.Deadline)
			}
		})
	}
}

// Each dispatch of a step is a task of its own, so that a new one is never refused
// for the sake of the one before, which a dead worker may still have.
func TestEachDispatchIsATaskOfItsOwn(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	first := dispatch(0, "default")
	next := first
	next.Fence.Counter++
	other := first // of another timeline
	other.Fence.Random = "0123456789abcdef"
	for _, d := range []core.Dispatch{first, next, other} {
		must(t, c.Send(t.Context(), []core.Dispatch{d}))
	}
	tasks, err := c.inspector.ListPendingTasks("default")
	must(t, err)
	if len(tasks) != 3 {
		t.Errorf("%d tasks wait, want one for each of three dispatches", len(tasks))
	}
}

// Once handled, a task leaves nothing behind: kept ones would fill the memory, and
// a conflict would no longer mean that the dispatch was sent.
func TestHandledTaskLeavesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	listen(t, server, 2, time.Second, func(context.Context, core.Dispatch) error { return nil }, "default")
	d := dispatch(0, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{d}))
	gone(t, c, d, 5*time.Second)
	for _, list := range []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		c.inspector.ListPendingTasks, c.inspector.ListActiveTasks, c.inspector.ListCompletedTasks, c.inspector.ListArchivedTasks, c.inspector.ListRetryTasks,
	} {
		tasks, err := list("default")
		must(t, err)
		if len(tasks) != 0 {
			t.Errorf("task %s is left as %s", tasks[0].ID, tasks[0].State)
		}
	}
}

// A process has several dequeuers, since one is bound by its round trips, and
// together they have the slots.
func TestSeveralDequeuers(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	const slots = 5
	r := listen(t, server, slots, time.Second, func(context.Context, core.Dispatch) error { return nil }, "default", "low") // with two
	shared := 0
	for _, d := range r.dequeuers {
		shared += d.prefetch.Slots
	}
	if shared != slots {
		t.Errorf("the dequeuers have %d slots, want %d", shared, slots)
	}
	testenv.Eventually(t, 5*time.Second, func() bool {
		servers, err := c.inspector.Servers()
		must(t, err)
		have := 0
		for _, s := range servers {
			have += s.Concurrency
		}
		return len(servers) == 2 && have == poolFor*slots
	})
}

// Close ends a sleeping dequeuer at once, though nothing rings and the next look
// into the queues is far.
func TestCloseWakesSleepers(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	r := listen(t, server, 4, time.Second, func(context.Context, core.Dispatch) error { return nil }, "default")
	r.bell.SetFallback(time.Minute)
	d := dispatch(0, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{d}))
	r.bell.Ring()
	gone(t, c, d, 5*time.Second)
	ended := time.Now()
	r.Close()
	if took := time.Since(ended); took > 2*time.Second {
		t.Errorf("Close took %s", took)
	}
}
