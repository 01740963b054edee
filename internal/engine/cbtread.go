package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// Readings are runs too, but no transitions: they change nothing, go on beside one
// another, and whoever asked waits for the answer.

// ReadChanges gives a page of what was written to a volume of a task in a span, or, from
// 0, of what is allocated. Invalid: the span or the page; NotFound: the volume, or a
// checkpoint; Conflict with the reason when the worker cannot tell, or none is there.
func (e *Engine) ReadChanges(ctx context.Context, uuid string, o cbt.PageOrder) (cbt.Page, error) {
	var page cbt.Page
	t, err := e.CBTTask(ctx, uuid)
	if err != nil {
		return page, err
	}
	i := slices.IndexFunc(t.Records, func(r cbt.Record) bool {
		return slices.ContainsFunc(r.Volumes, func(v cbt.Volume) bool { return v.UUID == o.Volume })
	})
	if i < 0 {
		return page, core.Errorf(core.NotFound, "the CBT task knows no volume %q; its volumes are known once it was enabled", o.Volume)
	}
	if o.Most == 0 {
		o.Most = cbt.MaxPage
	}
	if err := checkPage(t, t.Records[i].Chain, o); err != nil {
		return page, err
	}
	ask := order(t, i, cbt.OpChanges)
	ask.Changes = o
	answers, err := e.readCBT(ctx, t, []cbt.Order{ask})
	if err != nil {
		return page, err
	}
	if err := json.Unmarshal(answers[0], &page); err != nil {
		return page, fmt.Errorf("read page of changes: %w", err)
	}
	return page, nil
}

func checkPage(t core.CBTTask, chain cbt.Chain, o cbt.PageOrder) error {
	from, to := o.Span.From, o.Span.To
	switch {
	case o.Most < 1 || o.Most > cbt.MaxPage:
		return core.InvalidField("maxResults", "maxResults is %d, it must be from 1 to %d", o.Most, cbt.MaxPage)
	case from < 0 || to < 0 || from == 0 && to != 0 || to != 0 && to <= from:
		return core.InvalidField("to", "to must be a later checkpoint than from, and none where from is none")
	}
	for _, seq := range []int{from, to} {
		if seq != 0 && !chain.Has(seq) {
			return core.Errorf(core.NotFound, "there is no checkpoint %q of volume %s", cbt.CheckpointName(t.UUID, seq), o.Volume)
		}
	}
	return nil
}

// EstimateCBT asks each machine, in the task's order, how much was written since its last
// checkpoint. Conflict with the reason when one cannot be asked.
func (e *Engine) EstimateCBT(ctx context.Context, uuid string) ([]cbt.Estimate, error) {
	t, err := e.CBTTask(ctx, uuid)
	if err != nil {
		return nil, err
	}
	orders := make([]cbt.Order, len(t.Machines))
	for i := range orders {
		orders[i] = order(t, i, cbt.OpProbe)
	}
	answers, err := e.readCBT(ctx, t, orders)
	if err != nil {
		return nil, err
	}
	out := make([]cbt.Estimate, len(answers))
	for i, text := range answers {
		if err := json.Unmarshal(text, &out[i]); err != nil {
			return nil, fmt.Errorf("read estimate: %w", err)
		}
	}
	return out, nil
}

// readCBT has workers carry out orders that change nothing, and gives the details of
// their answers. When ctx ends first, so does the run.
func (e *Engine) readCBT(ctx context.Context, t core.CBTTask, orders []cbt.Order) ([]json.RawMessage, error) {
	f, err := e.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range orders {
		if wait, ok := reached(f, o.Machine); !ok {
			return nil, core.Errorf(core.Conflict, "%s", wait)
		}
	}
	now, err := e.store.Now(ctx)
	if err != nil {
		return nil, err
	}
	run, err := e.admitOrders(ctx, t, now, "cbt:"+t.UUID+":read:"+id.New(), core.CBTRead, orders, readPace)
	if err != nil {
		return nil, err
	}
	var ended core.Run
	err = poll(ctx, func() (bool, error) {
		ended, err = e.store.Run(ctx, run)
		return ended.State.Ended(), err
	})
	if err != nil {
		_, end := e.EndRun(context.WithoutCancel(ctx), run, "nobody waits for the answer any more", core.RunCanceled)
		e.settleLater(ctx, end)
		return nil, err
	}
	if ended.State != core.RunSucceeded {
		return nil, e.unread(ctx, run)
	}
	return e.answers(ctx, run)
}

// unread says why a reading did not succeed.
func (e *Engine) unread(ctx context.Context, run string) error {
	steps, err := e.store.Steps(ctx, run)
	if err != nil {
		return err
	}
	for _, st := range steps {
		if st.State != core.StepSucceeded {
			return core.Errorf(core.Conflict, "machine %s: %s", st.Target, st.Reason)
		}
	}
	return fmt.Errorf("read run %s: it did not succeed and all its steps did", run)
}
