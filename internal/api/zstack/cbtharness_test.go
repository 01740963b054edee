package zstack_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// The machine and the task of the seed's examples.
const (
	seedVM   = "89878e17496030ba9c062cbb18924335"
	seedTask = "b70f4160919c38748f908f489ba306ce"
)

// attend gives the replica a worker that reaches machines and carries out what is
// sent there.
func (r *replica) attend(machines ...string) *understudy.Worker {
	r.t.Helper()
	host := understudy.New(r.t, r.engine, "host1")
	r.announce(host, machines...)
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	r.queue.host = host
	return host
}

func (r *replica) announce(host *understudy.Worker, machines ...string) {
	r.t.Helper()
	if _, err := r.store.Beat(r.t.Context(), core.Heartbeat{Worker: "host1"}, host.Card(machines...)); err != nil {
		r.t.Fatalf("announce worker: %v", err)
	}
}

// attended starts a replica with a worker that reaches machines.
func attended(t *testing.T, opts zstack.Options, machines ...string) (*replica, *understudy.Worker) {
	t.Helper()
	r := newReplica(t, setting{opts: opts})
	return r, r.attend(machines...)
}

// cbtTask makes a task of a machine through the API.
func (r *replica) cbtTask(machine string) string {
	r.t.Helper()
	return r.do("POST", "/cbt-task/create", params(`"name":"t","vmInstanceUuid":"`+machine+`"`)).inventory()["uuid"].(string)
}

// cbtStatus is what a query says of a task; "gone" if it is.
func (r *replica) cbtStatus(task string) string {
	r.t.Helper()
	rows := r.do("GET", "/cbt-task/"+task, "").inventories()
	if len(rows) == 0 {
		return "gone"
	}
	return column(rows, "status")[0]
}

// machines gives n of them.
func machines(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = id.New()
	}
	return out
}
