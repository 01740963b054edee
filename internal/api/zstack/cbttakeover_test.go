package zstack_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/dispatch"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/testenv"
)

// The api process dies while a task is Starting. Another one takes the receipt over
// and delivers what the worker opened, once.
func TestCBTTakenOverWhileStarting(t *testing.T) {
	for _, row := range []struct{ name, fault string }{{"Running", ""}, {"Failed", "the disk is gone"}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			survivor := join(t, server.Client(t, testenv.SameSlot(t)), setting{})
			host := survivor.attend()
			m := newMortal()
			dying := join(t, server.Client(t, m), setting{opts: zstack.Options{SyncWait: 50 * time.Millisecond}})
			dying.queue.host = host
			task, job := survivor.cbtTask(id.New()), newJobUUID()
			release := host.Hold(cbt.OpOpen)
			defer release()
			host.Fail(cbt.OpOpen, row.fault)
			dying.do("POST", "/cbt-task/enable/"+task, "", "X-Job-UUID", job)
			testenv.Eventually(t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpOpen)) == 1 })
			m.left.Store(0)

			survivor.lapse()
			survivor.runs()
			testenv.Eventually(t, 10*time.Second, func() bool { _, f := survivor.row(job); return f["lost"] == "1" })
			if poll := survivor.do("GET", "/api-jobs/"+job, ""); poll.status != http.StatusAccepted {
				t.Fatalf("poll while Starting = %d %s, want 202", poll.status, poll.raw)
			}
			release()
			got := survivor.ends(job, 10*time.Second)
			if row.fault != "" {
				got.fails(business, "SYS.1006", row.fault)
			} else if infos, _ := got.ok()["volumeCbtBackupInfos"].([]any); len(infos) != understudy.Disks || got.inventory()["status"] != "Running" {
				t.Errorf("result = %s, want Running and two volumes", got.raw)
			}
			equal(t, "status", survivor.cbtStatus(task), row.name)
			equal(t, "times it was opened", len(host.Orders(cbt.OpOpen)), 1)
		})
	}
}

// A process that is told to stop does not wait for workers: it gives the receipt
// back, and another one goes on.
func TestCBTStoppingProcessGivesBack(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	other := join(t, server.Client(t, testenv.SameSlot(t)), setting{})
	host := other.attend()
	stopping := join(t, server.Client(t), setting{opts: zstack.Options{SyncWait: 50 * time.Millisecond}})
	stopping.queue.host = host
	task, job := other.cbtTask(id.New()), newJobUUID()
	release := host.Hold(cbt.OpOpen)
	defer release()
	stopping.do("POST", "/cbt-task/enable/"+task, "", "X-Job-UUID", job)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	stopping.api.Run(ctx)
	stopping.api.Wait() // and not for the worker

	other.runs()
	if poll := other.do("GET", "/api-jobs/"+job, ""); poll.status != http.StatusAccepted {
		t.Fatalf("poll while Starting = %d %s, want 202", poll.status, poll.raw)
	}
	release()
	equal(t, "status", other.ends(job, 15*time.Second).inventory()["status"], any("Running"))
	if _, f := other.row(job); f["lost"] != "" && f["lost"] != "0" {
		t.Errorf("receipt = %v, want no lost holder", f)
	}
}

// A direct enable that waits when the process is told to stop is answered as one that
// takes too long.
func TestCBTStoppingProcessAnswers(t *testing.T) {
	t.Parallel()
	r, host := attended(t, zstack.Options{SyncWait: time.Minute})
	task := r.cbtTask(id.New())
	defer host.Hold(cbt.OpOpen)()
	answers := make(chan reply, 1)
	go func() { answers <- r.do("POST", "/cbt-task/enable/"+task, "") }()
	testenv.Eventually(t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpOpen)) == 1 })
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r.api.Run(ctx)
	equal(t, "status", (<-answers).inventory()["status"], any("Starting"))
}

// roles has the replica repair what others leave between two writes: it has no asynq,
// so that whatever was not begun counts as lost.
func (r *replica) roles() {
	ctx, stop := context.WithCancel(context.Background())
	roles := dispatch.New(r.store, noQueue{}, noFires{}, r.engine, dispatch.Options{Log: quiet})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = roles.Run(ctx) }()
	r.t.Cleanup(func() { stop(); <-ended })
}

type noQueue struct{}

func (noQueue) Where(_ context.Context, ds []core.Dispatch) ([]queue.Place, error) {
	return slices.Repeat([]queue.Place{queue.Missing}, len(ds)), nil
}
func (noQueue) Remove(context.Context, core.Dispatch) error { return nil }

type noFires struct{}

func (noFires) ConsumeFires(ctx context.Context, _ func(context.Context, events.Batch) error) {
	<-ctx.Done()
}

// cbtDemands are the calls on CBT tasks, on fresh tasks each time.
var cbtDemands = map[string]func(r *replica) demand{
	"CreateCbtTask": func(*replica) demand {
		vm := newJobUUID()
		return demand{"POST", "/cbt-task/create", params(`"name":"t","vmInstanceUuid":"` + vm + `"`), "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/cbt-task?q=resourceRef.resourceUuid=" + vm))
		}}
	},
	"CreateCbtTask with a uuid": func(*replica) demand {
		uuid := newJobUUID()
		return demand{"POST", "/cbt-task/create", params(`"name":"t","resourceUuid":"` + uuid + `","resourceUuids":["` + newJobUUID() + `","` + newJobUUID() + `"]`), "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/cbt-task/" + uuid))
		}}
	},
	"EnableCbtTask": func(r *replica) demand {
		task := r.cbtTask(newJobUUID())
		return demand{"POST", "/cbt-task/enable/" + task, "", "Created", "Running, 1 checkpoint", func(r *replica) string { return r.chain(task) }}
	},
	"DisableCbtTask": func(r *replica) demand {
		task := r.cbtTask(newJobUUID())
		r.do("POST", "/cbt-task/enable/"+task, "").ok()
		return demand{"POST", "/cbt-task/disable/" + task, "", "Running, 1 checkpoint", "Stopped, 1 checkpoint", func(r *replica) string { return r.chain(task) }}
	},
	"DisableCbtTask by force": func(r *replica) demand {
		task := r.cbtTask(newJobUUID())
		r.do("POST", "/cbt-task/enable/"+task, "").ok()
		return demand{"POST", "/cbt-task/disable/" + task, params(`"force":true`), "Running, 1 checkpoint", "Stopped, 1 checkpoint", func(r *replica) string { return r.chain(task) }}
	},
	"DeleteCbtTask by force": func(r *replica) demand {
		task := r.cbtTask(newJobUUID())
		r.do("POST", "/cbt-task/enable/"+task, "").ok()
		return demand{"DELETE", "/cbt-task/" + task + "?force=true", "", "Running, 1 checkpoint", "gone", func(r *replica) string { return r.chain(task) }}
	},
}

// chain is the status of a task and how many checkpoints it has.
func (r *replica) chain(task string) string {
	r.t.Helper()
	t, err := r.engine.CBTTask(r.ctx(), task)
	switch {
	case core.Is(err, core.NotFound):
		return "gone"
	case err != nil:
		r.t.Fatal(err)
	case len(t.Records[0].Chain) > 0:
		return fmt.Sprintf("%s, %d checkpoint", t.Status, len(t.Records[0].Chain))
	}
	return string(t.Status)
}

// A replica is killed before each command that it sends to Redis, for each call on
// CBT tasks; another one and the reconciler bring what was accepted to its end.
func TestCBTKilledBetweenEachTwoWrites(t *testing.T) {
	for name, make := range cbtDemands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			survivor := join(t, server.Client(t, testenv.SameSlot(t)), setting{})
			host := survivor.attend()
			type victim struct {
				job string
				demand
			}
			var victims []victim
			for n := int64(0); ; n++ {
				v := victim{newJobUUID(), make(survivor)}
				m := newMortal()
				dying := join(t, server.Client(t, m), setting{})
				dying.queue.host = host
				m.left.Store(n)
				if !dying.send(v.demand, v.job, m) {
					break
				}
				victims = append(victims, v)
				if n > 100 {
					t.Fatal("the request is never done")
				}
			}
			survivor.roles()
			survivor.lapse()
			survivor.runs()
			finished := 0
			for n, v := range victims {
				got := survivor.ends(v.job, 30*time.Second)
				if got.status == http.StatusNotFound { // nobody was told that it was accepted
					if seen := v.seen(survivor); seen != v.before {
						t.Errorf("killed at command %d: got %s, want %s", n, seen, v.before)
					}
					continue
				}
				if finished++; got.status != http.StatusOK {
					t.Errorf("killed at command %d: the job ended with %d %s", n, got.status, got.raw)
				}
				if seen := v.seen(survivor); seen != v.after {
					t.Errorf("killed at command %d: got %s, want %s; the job ended with %d %s", n, seen, v.after, got.status, got.raw)
				}
			}
			if finished < 2 {
				t.Errorf("%d of %d receipts were taken over, want some", finished, len(victims))
			}
			t.Logf("%d points, %d after the receipt was stored", len(victims), finished)
		})
	}
}
