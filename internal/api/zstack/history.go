package zstack

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// History has one row per step of each run whose target was made through this
// dialect. Rows are not stored: they are read off runs and steps.
//
// A row's id is the run's creation, its partition and the step's index in one
// number, so that it never changes, is never used twice and ascends with time:
//
//	ms since 2024-01-01 (41 bits) | partition (8) | step index (14)
//
// Some columns are known from the run alone. A query that needs no others reads
// steps only for the rows it shows; and one for the newest rows (the order when
// none is asked for) stops reading when it has enough. All others read every row
// that their run conditions leave, up to maxHistory.

const (
	historyEpoch = 1704067200000 // 2024-01-01 UTC in ms
	runBits      = 22            // below the run's time
	indexBits    = 14            // below the partition
	// maxHistory bounds the rows that one query looks at.
	maxHistory = 100_000
	runPage    = 1000
	// readers is how many runs are read at a time.
	readers = 8
)

// runColumns are the columns that are known without a run's steps.
var runColumns = []string{"id", "triggerUuid", "schedulerJobGroupUuid", "jobType", "startTime", "fireInstanceId"}

// A historyRow names a row. full is nil while its step is not read: outputs are
// long, so only rows that are sure to be shown keep what was read.
type historyRow struct {
	run   *core.Run
	index int
	key   any // what it is sorted by, if that takes the steps
	full  *historyInventory
}

// A historyQuery is a query for history, cut into what runs tell and what takes
// their steps.
type historyQuery struct {
	query
	filter core.RunFilter
	ofRun  []test
	ofStep []test
	newest bool // the order is newest first
	bySort bool // the order takes the steps
}

func (a *API) queryHistory(ctx context.Context, q query) (answer, error) {
	h, err := a.planHistory(q)
	if err != nil {
		return answer{}, err
	}
	rows, err := a.scanHistory(ctx, h)
	if err != nil {
		return answer{}, err
	}
	if h.count {
		total := len(rows)
		return answer{total: &total}, nil
	}
	if !h.newest && !h.bySort {
		slices.Reverse(rows)
	}
	return a.showHistory(ctx, h, rows)
}

// showHistory reads what is not read of the rows that are shown.
func (a *API) showHistory(ctx context.Context, h historyQuery, rows []historyRow) (answer, error) {
	c, total := classes[history], len(rows)
	if h.bySort {
		slices.SortStableFunc(rows, func(x, y historyRow) int { return h.direction(compareValues(x.key, y.key)) })
	}
	from := min(h.start, total)
	rows, err := a.readRows(ctx, rows[from:from+min(h.limit, total-from)])
	if err != nil {
		return answer{}, err
	}
	out := make([]any, len(rows))
	for i, r := range rows {
		out[i] = c.pick(h.query, *r.full)
	}
	an := many(c.name, out)
	if h.withTotal {
		an.total = &total
	}
	return an, nil
}

func (a *API) planHistory(q query) (historyQuery, error) {
	c := classes[history]
	h := historyQuery{query: q, filter: core.RunFilter{Dialect: core.ZStack, Limit: runPage}}
	for _, cond := range q.conditions {
		t, err := cond.compile(c.columns[cond.field], a.opts.Zone)
		if err != nil {
			return h, err
		}
		if slices.Contains(runColumns, cond.field) {
			h.ofRun = append(h.ofRun, t)
			narrow(&h.filter, cond.field, t)
		} else {
			h.ofStep = append(h.ofStep, t)
		}
	}
	inTime := q.sort == "" || q.sort == "id" || q.sort == "startTime"
	h.newest = inTime && (q.sort == "" || q.descending)
	h.bySort = !inTime
	return h, nil
}

// narrow limits the runs to those that may pass a test.
func narrow(f *core.RunFilter, field string, t test) {
	var from, to time.Time // of the run's creation, to exclusive
	switch x := t.operand.(type) {
	case string:
		if t.op == equal && field == "schedulerJobGroupUuid" {
			f.Target = x
		}
		if t.op == equal && field == "triggerUuid" {
			f.Trigger = x
		}
		return
	case int64:
		from = time.UnixMilli(x>>runBits + historyEpoch)
		to = from.Add(time.Millisecond)
	case time.Time: // compared by the second
		from, to = x, x.Add(time.Second)
	}
	if (t.op == equal || t.op == more || t.op == atLeast) && from.After(f.After) {
		f.After = from
	}
	if (t.op == equal || t.op == less || t.op == atMost) && (f.Before.IsZero() || to.Before(f.Before)) {
		f.Before = to
	}
}

// enough is how many rows a query needs to see, or -1 for all.
func (h historyQuery) enough() int {
	if !h.newest || h.count || h.withTotal || h.start > maxHistory || h.limit > maxHistory {
		return -1
	}
	return h.start + h.limit
}

// scanHistory gives the rows that pass, newest first.
func (a *API) scanHistory(ctx context.Context, h historyQuery) ([]historyRow, error) {
	var found []historyRow
	scanned, enough := 0, h.enough()
	done := func() bool { return enough >= 0 && len(found) >= enough }
	err := a.eachRunPage(ctx, h, func(runs []core.Run) (bool, error) {
		var unread []historyRow
		for i := range runs {
			if done() {
				return false, nil
			}
			if scanned += runs[i].Counts.Total; scanned > maxHistory {
				return false, badArgument("the query looks at more than %d history rows; narrow it by startTime, triggerUuid, schedulerJobGroupUuid or fireInstanceId, or ask for the newest with sort=-id and a limit", maxHistory)
			}
			if rows := a.rowsOf(&runs[i], h); h.takesSteps() {
				unread = append(unread, rows...)
			} else {
				found = append(found, rows...)
			}
		}
		read, err := a.readRows(ctx, unread)
		for _, r := range read {
			if passes(h.ofStep, *r.full) {
				found = append(found, h.keep(r, len(found)))
			}
		}
		return !done(), err
	})
	return found, err
}

// keep gives a row that was read as it is remembered, after found others.
func (h historyQuery) keep(r historyRow, found int) historyRow {
	if h.bySort {
		r.key = classes[history].columns[h.sort].value(*r.full)
	}
	if !h.newest || found >= h.start+h.limit {
		r.full = nil
	}
	return r
}

// takesSteps reports whether steps decide about rows or their order.
func (h historyQuery) takesSteps() bool { return len(h.ofStep) > 0 || h.bySort }

// eachRunPage gives the runs that may have rows, newest first, until visit wants
// no more.
func (a *API) eachRunPage(ctx context.Context, h historyQuery, visit func([]core.Run) (bool, error)) error {
	if run := strings.ToLower(h.exactly("fireInstanceId")); run != "" {
		r, err := a.eng.Run(ctx, run)
		if core.Is(err, core.NotFound) || err == nil && r.Dialect != core.ZStack {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = visit([]core.Run{r})
		return err
	}
	f := h.filter
	if enough := h.enough(); enough >= 0 {
		f.Limit = min(max(enough, 1), runPage)
	}
	for {
		page, err := a.eng.Runs(ctx, f)
		if err != nil {
			return err
		}
		if next, err := visit(page.Runs); err != nil || !next || page.Next == "" {
			return err
		}
		f.Cursor = page.Next
	}
}

// rowsOf gives the rows of a run that pass what runs tell, last step first.
func (a *API) rowsOf(r *core.Run, h historyQuery) []historyRow {
	var rows []historyRow
	for i := r.Counts.Total - 1; i >= 0; i-- {
		if len(h.ofRun) == 0 || passes(h.ofRun, a.historyOf(r, i)) {
			rows = append(rows, historyRow{run: r, index: i})
		}
	}
	return rows
}

// historyOf gives a row with the run columns only.
func (a *API) historyOf(r *core.Run, index int) historyInventory {
	v := historyInventory{
		ID: historyID(r, index), TriggerUUID: nullable(r.Trigger), JobType: r.Type, StartTime: a.stamp(r.Created), FireInstanceID: r.ID,
	}
	if r.Target.Kind == core.GroupTarget {
		v.SchedulerJobGroupUUID = nullable(r.Target.UUID)
	}
	return v
}

func passes(tests []test, v historyInventory) bool {
	return !slices.ContainsFunc(tests, func(t test) bool { return !t.holds(v) })
}

func historyID(r *core.Run, index int) int64 {
	partition, _ := id.RunPartition(r.ID)
	return (r.Created.UnixMilli()-historyEpoch)<<runBits | int64(partition)<<indexBits | int64(index)
}

// readRows completes rows by their steps. Rows whose run was forgotten meanwhile
// are left out.
func (a *API) readRows(ctx context.Context, rows []historyRow) ([]historyRow, error) {
	var runs []string
	for _, r := range rows {
		if r.full == nil && (len(runs) == 0 || runs[len(runs)-1] != r.run.ID) {
			runs = append(runs, r.run.ID)
		}
	}
	steps, err := a.stepsOf(ctx, runs)
	if err != nil {
		return nil, err
	}
	types, err := a.types(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]historyRow, 0, len(rows))
	for _, r := range rows {
		if r.full == nil {
			if r.index >= len(steps[r.run.ID]) {
				continue
			}
			v := a.historyOf(r.run, r.index)
			complete(&v, r.run, steps[r.run.ID][r.index], types)
			r.full = &v
		}
		out = append(out, r)
	}
	return out, nil
}

// stepsOf reads the steps of runs, several at a time.
func (a *API) stepsOf(ctx context.Context, runs []string) (map[string][]core.Step, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		out   = make(map[string][]core.Step, len(runs))
		queue = make(chan string)
	)
	for range min(readers, len(runs)) {
		wg.Go(func() {
			for run := range queue {
				steps, err := a.eng.Steps(ctx, run)
				if err != nil && !core.Is(err, core.NotFound) {
					cancel(err)
				}
				mu.Lock()
				out[run] = steps
				mu.Unlock()
			}
		})
	}
	for _, run := range runs {
		if ctx.Err() != nil {
			break
		}
		queue <- run
	}
	close(queue)
	wg.Wait()
	return out, context.Cause(ctx)
}
