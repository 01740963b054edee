package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

func (f *faults) MoveCBT(ctx context.Context, t core.CBTTask, m core.CBTMove) error {
	return f.do("MoveCBT", func() error { return f.Store.MoveCBT(ctx, t, m) })
}

func (f *faults) CreateCBT(ctx context.Context, t core.CBTTask) error {
	return f.do("CreateCBT", func() error { return f.Store.CreateCBT(ctx, t) })
}

func (f *faults) SettledCBT(ctx context.Context, task, since string) error {
	return f.do("SettledCBT", func() error { return f.Store.SettledCBT(ctx, task, since) })
}

func (f *faults) SettleCBTClaim(ctx context.Context, task, machine string) error {
	return f.do("SettleCBTClaim", func() error { return f.Store.SettleCBTClaim(ctx, task, machine) })
}

func (f *faults) ClaimMachine(ctx context.Context, task, machine string) (holder string, err error) {
	err = f.do("ClaimMachine", func() (err error) { holder, err = f.Store.ClaimMachine(ctx, task, machine); return err })
	return holder, err
}

// A canceler counts how often runs are canceled.
type canceler struct {
	engine.Store
	calls atomic.Int32
}

func (c *canceler) Cancel(ctx context.Context, run, reason string, end core.RunState) (bool, core.Effects, error) {
	c.calls.Add(1)
	return c.Store.Cancel(ctx, run, reason, end)
}

// machines announces a worker that reaches n machines, and gives their uuids.
func (h *house) machines(n int) []string {
	h.Helper()
	out := make([]string, n)
	for i := range out {
		out[i] = id.New()
	}
	h.reach(out...)
	return out
}

func (h *house) reach(machines ...string) {
	h.Helper()
	h.worker(core.Worker{ID: "host", Host: "host", Queues: []string{"host-host"}, Types: []executor.Spec{{Type: core.CBTType, Open: true}}, Resources: machines})
}

// vanish makes the last heartbeat of the machines' worker an old one.
func (h *house) vanish() {
	h.Helper()
	h.ok(h.rdb.ZAdd(h.Context(), "takt:{w}:beat", zAt(time.Now().Add(-time.Minute), "host")).Err())
}

// task makes a CBT task of n machines that a worker reaches.
func (h *house) task(n int) core.CBTTask {
	h.Helper()
	return must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("t"), Machines: h.machines(n)}))(h)
}

// An act is how the worker of these tests carries out an order.
type act func(o cbt.Order) (a cbt.Answer, failure string)

// obliging does what it is asked for: each machine has one volume, named after it.
func obliging(o cbt.Order) (cbt.Answer, string) {
	r := o.Record
	volume := cbt.Volume{UUID: volumeOf(o.Machine), Path: "/v/" + o.Machine, Format: cbt.FormatQcow2, Size: 1 << 30}
	r.Driver, r.Block, r.Volumes = cbt.DriverQEMU, cbt.DefaultGranularity, []cbt.Volume{volume}
	var detail any
	switch o.Op {
	case cbt.OpOpen:
		r.Chain = append(r.Chain, cbt.Point{Seq: o.Session.Seq, Sizes: []uint64{volume.Size}})
		r.Open = &cbt.OpenSession{Session: o.Session, Exports: []cbt.Export{{Volume: volume.UUID, Mode: o.Session.Mode()}}}
		detail = cbt.Details{{Volume: volume.UUID, Changed: uint64(o.Session.Seq), Bitmap: "bits"}}
	case cbt.OpClose:
		r.Open = nil
	case cbt.OpForget:
		r.Chain = r.Chain.Without(o.Seq)
	case cbt.OpProbe:
		detail = cbt.Estimate{Running: true, Session: r.Open != nil, Volumes: []cbt.VolumeEstimate{{Volume: volume.UUID, Changed: 4096, Known: true}}}
	case cbt.OpChanges:
		detail = cbt.Page{Volume: o.Changes.Volume, Size: volume.Size, Extents: []cbt.PageExtent{{Offset: o.Changes.Offset, Length: 65536}}}
	case cbt.OpExport:
		for _, v := range o.Volumes {
			r.Restore = append(r.Restore, cbt.Export{Volume: v, Name: o.Token})
		}
	case cbt.OpUnexport:
		r.Restore = nil
	case cbt.OpBackup:
		r.Chain = append(r.Chain, cbt.Point{Seq: o.Session.Seq, Sizes: []uint64{volume.Size}})
		r.Open, r.Backups = nil, append(r.Backups, cbt.Backup{Seq: o.Session.Seq, Base: o.Session.From, Files: []cbt.BackupFile{{Volume: volume.UUID}}})
	case cbt.OpDiscard:
		r.Backups = slices.DeleteFunc(slices.Clone(r.Backups), func(b cbt.Backup) bool { return b.Seq == o.Seq })
	}
	return cbt.Answer{Record: r, Detail: detail}, ""
}

// failing fails the orders for some machines, and says what it was asked.
func failing(machines ...string) act {
	return func(o cbt.Order) (cbt.Answer, string) {
		for _, m := range machines {
			if m == o.Machine {
				return cbt.Answer{}, string(o.Op) + " does not work"
			}
		}
		return obliging(o)
	}
}

func volumeOf(machine string) string { return id.Derived("volume of " + machine) }

// begun is an attempt of an order.
type begun struct {
	core.Dispatch
	core.Begun
	order cbt.Order
}

// orders begins all attempts that were sent.
func (h *house) orders() (out []begun) {
	h.Helper()
	for _, d := range h.queue.take() {
		b, err := h.eng.Begin(h.Context(), d, "host")
		if core.Is(err, core.Stale) {
			continue
		}
		h.ok(err)
		x := begun{Dispatch: d, Begun: b}
		h.ok(json.Unmarshal([]byte(b.Step.Parameters["order"]), &x.order))
		out = append(out, x)
	}
	return out
}

// answer ends an attempt.
func (h *house) answer(x begun, do act) core.Finished {
	h.Helper()
	a, failure := do(x.order)
	o := core.Outcome{State: core.AttemptSucceeded, Output: must(a.Encode())(h)}
	if failure != "" {
		o = core.Outcome{State: core.AttemptFailed, Reason: failure}
	}
	return must(h.eng.Finish(h.Context(), x.Dispatch, "host", x.Begun, o, true))(h)
}

// work carries out all orders that were sent, and gives them.
func (h *house) work(do act) (out []cbt.Order) {
	h.Helper()
	for _, x := range h.orders() {
		h.answer(x, do)
		out = append(out, x.order)
	}
	return out
}

// meanwhile runs do, and carries out what is sent until that has returned.
func (h *house) meanwhile(work act, do func()) (orders []cbt.Order) {
	h.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	soon(h, func() bool {
		orders = append(orders, h.work(work)...)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	return orders
}

// ended gives a task when its transition has ended, and how that ended.
func (h *house) ended(t core.CBTTask) (core.CBTTask, core.CBTPending) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Second)
	defer cancel()
	now, how, err := h.eng.AwaitCBT(ctx, t.UUID, t.Pending.Run)
	h.ok(err)
	return now, how
}

// enabled gives a task that is Running.
func (h *house) enabled(t core.CBTTask, bitmap string) core.CBTTask {
	h.Helper()
	t = must(h.eng.EnableCBTTask(h.ctx, t.UUID, bitmap))(h)
	h.work(obliging)
	t, how := h.ended(t)
	if t.Status != core.CBTRunning || how.Failed() {
		h.Fatalf("enable: got %s, %s", t.Status, how.Reason)
	}
	return t
}

func (h *house) stopped(t core.CBTTask) core.CBTTask {
	h.Helper()
	t = must(h.eng.DisableCBTTask(h.ctx, t.UUID, false))(h)
	h.work(obliging)
	t, _ = h.ended(t)
	return t
}

// in brings a new task into a status.
func (h *house) in(status core.CBTStatus, n int) core.CBTTask {
	h.Helper()
	t := h.task(n)
	switch status {
	case core.CBTStarting:
		return must(h.eng.EnableCBTTask(h.ctx, t.UUID, ""))(h)
	case core.CBTRunning:
		return h.enabled(t, "")
	case core.CBTStopped:
		return h.stopped(h.enabled(t, ""))
	case core.CBTFailed:
		t = must(h.eng.EnableCBTTask(h.ctx, t.UUID, ""))(h)
		h.work(failing(t.Machines...))
		t, _ = h.ended(t)
	}
	if t.Status != status {
		h.Fatalf("the task is %s, not %s", t.Status, status)
	}
	return t
}

func (h *house) readTask(t core.CBTTask) core.CBTTask {
	h.Helper()
	return must(h.eng.CBTTask(h.ctx, t.UUID))(h)
}

func (h *house) wantGone(what string, t core.CBTTask) {
	h.Helper()
	_, err := h.eng.CBTTask(h.ctx, t.UUID)
	wantKind(h.T, what, err, core.NotFound)
}

// cbtRuns gives the runs of a task, newest first.
func (h *house) cbtRuns(t core.CBTTask) []core.Run {
	h.Helper()
	return h.runs(core.RunFilter{Target: t.UUID, Kind: core.CBTTarget})
}

func bitmap(t core.CBTTask, seq int) string { return cbt.CheckpointName(t.UUID, seq) }

// asking is a context of a request with that key, carried out again if again.
func (h *house) asking(key string, again bool) context.Context {
	return core.WithRequest(h.ctx, core.Request{Key: key, At: time.Now(), Again: again})
}

func sessions(orders []cbt.Order) (out []string) {
	for _, o := range orders {
		out = append(out, fmt.Sprint(o.Session.From, "..", o.Session.Seq))
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }

// runPartition gives the partition that a run's id names.
func runPartition(run string) (int, error) {
	n, ok := id.RunPartition(run)
	if !ok {
		return 0, fmt.Errorf("run %s names no partition", run)
	}
	return n, nil
}

// soon waits for a condition.
func soon(t testing.TB, ok func() bool) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, ok)
}
