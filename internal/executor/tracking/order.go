package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/pkg/executor"
)

// work is one order while it is carried out.
type work struct {
	*Host
	m   Machine
	o   cbt.Order
	log io.Writer
	// tell takes bytes done and in all; nil where nobody listens
	tell func(done, total int64)

	record  cbt.Record // as it is now
	changed bool       // the record is another than the order's
}

var _ executor.Executor = (*Host)(nil)

// Execute carries out one order. The result's Output is the answer.
func (h *Host) Execute(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	o, err := parse(a.Parameters[Parameter])
	if err != nil {
		return executor.Result{}, executor.Permanent(err)
	}
	w := &work{Host: h, o: o, log: a.Log, tell: a.Progress, record: o.Record}
	detail, err := w.do(ctx)
	if err != nil && !w.changed {
		return executor.Result{}, judged(ctx, err)
	}
	text, failed := encode(cbt.Answer{Record: w.record, Detail: detail})
	return executor.Result{Output: text}, judged(ctx, errors.Join(err, failed))
}

func parse(text string) (o cbt.Order, err error) {
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return o, fmt.Errorf("read order: %w", err)
	}
	if _, err := cbt.TaskName(o.Task); err != nil {
		return o, fmt.Errorf("read order: %w", err)
	}
	return o, nil
}

// judged marks what no further attempt can mend.
func judged(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case cbt.Retryable(err):
		return err
	}
	return executor.Permanent(err)
}

// ops say how each order is carried out, and whether it changes something on the host.
// Such have the machine to themselves.
var ops = map[cbt.Op]struct {
	do    func(*work, context.Context) (any, error)
	alone bool
}{
	cbt.OpOpen:     {(*work).open, true},
	cbt.OpClose:    {(*work).close, true},
	cbt.OpDrop:     {(*work).drop, true},
	cbt.OpForget:   {(*work).forget, true},
	cbt.OpProbe:    {(*work).probe, false},
	cbt.OpChanges:  {(*work).changes, false},
	cbt.OpExport:   {(*work).export, true},
	cbt.OpUnexport: {(*work).unexport, true},
	cbt.OpBackup:   {(*work).backup, true},
	cbt.OpRestore:  {(*work).restore, true},
	cbt.OpVerify:   {(*work).verify, false},
	cbt.OpDiscard:  {(*work).discard, true},
}

func (w *work) do(ctx context.Context) (any, error) {
	op, ok := ops[w.o.Op]
	if !ok {
		return nil, fmt.Errorf("%w: order %q", cbt.ErrUnsupported, w.o.Op)
	}
	if w.m, ok = w.machines[w.o.Machine]; !ok {
		return nil, w.stranger()
	}
	if op.alone {
		release, err := w.hold(ctx, w.m)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	detail, err := op.do(w, ctx)
	if err != nil {
		return detail, fmt.Errorf("%s machine %s: %w", w.o.Op, w.m.title(), err)
	}
	return detail, nil
}

// stranger answers for a machine that is not configured. To drop by force succeeds:
// the task must be able to go when its machine has gone.
func (w *work) stranger() error {
	if w.o.Op == cbt.OpDrop && w.o.Force {
		w.record = cbt.Record{}
		return nil
	}
	return fmt.Errorf("machine %s is none of this worker's: worker.cbt.machines and worker.cbt.volumes list them", w.o.Machine)
}

func (m Machine) title() string {
	if m.Name == "" {
		return m.UUID
	}
	return m.Name
}

// say writes a line to the attempt's log.
func (w *work) say(format string, args ...any) { fmt.Fprintf(w.log, format+"\n", args...) }

func (w *work) target() cbt.Target {
	t := w.Host.target(w.m, w.o, w.record)
	t.Disks = w.arranged()
	t.Progress = progress(w.log, w.tell)
	return t
}
