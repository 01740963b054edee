package zstack

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
// A query goes to the narrowest list of runs that its conditions name: a fire, the
// targets of a job, groups, triggers, or a window of time. Some columns are known
// from the run alone (runColumns); a query that needs no others reads steps only for
// the rows it shows. In the order of time, either way, reading stops when there are
// enough rows. What takes a look at more rows than maxHistory stops there, answers
// with what it has, and says so. Totals come from the runs' counters (total).

const (
	historyEpoch = 1704067200000 // 2024-01-01 UTC in ms
	runBits      = 22            // below the run's time
	indexBits    = 14            // below the partition
	// maxHistory bounds the rows, and the runs, that one query looks at.
	maxHistory = 100_000
	runPage    = 1000
	// rowPage is how many rows are read at a time.
	rowPage = 1000
)

// A historyRow names a row. full is nil while its step is not read: outputs are
// long, so only rows that are sure to be shown keep what was read.
type historyRow struct {
	run   *core.Run
	index int
	key   any // what it is sorted by, if that takes the steps
	full  *historyInventory
}

func (a *API) queryHistory(ctx context.Context, q query) (answer, error) {
	h, err := a.planHistory(q)
	if err != nil {
		return answer{}, err
	}
	if h.count && h.tallied() {
		total, err := a.total(ctx, h)
		return answer{total: &total}, err
	}
	s := scan{API: a, h: h, until: time.Now().Add(a.opts.SyncWait / 2)}
	if err := s.run(ctx); err != nil {
		return answer{}, err
	}
	total := len(s.found)
	if h.count {
		return answer{total: &total, warning: s.stopped}, nil
	}
	an, err := a.showHistory(ctx, h, s.found)
	if err == nil && h.withTotal {
		if h.tallied() {
			total, err = a.total(ctx, h)
		}
		an.total = &total
	}
	an.warning = s.stopped
	return an, err
}

// showHistory reads what is not read of the rows that are shown.
func (a *API) showHistory(ctx context.Context, h historyQuery, rows []historyRow) (answer, error) {
	c, total := classes[history], len(rows)
	if h.bySort {
		slices.SortStableFunc(rows, func(x, y historyRow) int { return h.direction(compareValues(x.key, y.key)) })
	}
	from := min(h.start, total)
	rows = rows[from : from+min(h.limit, total-from)]
	out := make([]any, 0, len(rows))
	for len(rows) > 0 {
		part, err := a.readRows(ctx, rows[:min(rowPage, len(rows))], true)
		if err != nil {
			return answer{}, err
		}
		for _, r := range part {
			out = append(out, c.pick(h.query, *r.full))
		}
		rows = rows[min(rowPage, len(rows)):]
	}
	return many(c.name, out), nil
}

// total gives how many rows pass by what the runs' counters say.
func (a *API) total(ctx context.Context, h historyQuery) (int, error) {
	if h.none {
		return 0, nil
	}
	f := h.filter
	f.Jobs = h.jobs
	if f.Before.IsZero() {
		f.Before = endOfTime
	}
	parts, err := a.eng.Tally(ctx, f, []time.Time{f.After, f.Before})
	if err != nil || len(parts) == 0 {
		return 0, err
	}
	alike := slices.DeleteFunc(parts[0], func(t core.Tally) bool {
		return t.Type == core.CBTType || !passes(h.ofRun, historyInventory{TriggerUUID: nullable(t.Trigger), JobType: t.Type, SchedulerJobGroupUUID: groupOf(t.Target)})
	})
	if h.jobs != nil {
		return a.totalOfJobs(ctx, h, alike)
	}
	total := int64(0)
	for _, t := range alike {
		if passes(h.ofStep, historyInventory{Success: true}) {
			total += t.Succeeded
		}
		if passes(h.ofStep, historyInventory{}) {
			total += t.Steps - t.Succeeded
		}
	}
	return int(total), nil
}

// endOfTime is after every instant that the dialect can show.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// totalOfJobs gives how many rows of the query's jobs runs have, by their plans.
func (a *API) totalOfJobs(ctx context.Context, h historyQuery, alike []core.Tally) (int, error) {
	runs := make([]core.Run, len(alike))
	for i, t := range alike {
		runs[i] = core.Run{Account: t.Account, Target: t.Target, Plan: t.Plan}
	}
	plans, err := a.eng.Outlines(ctx, runs)
	total := 0
	for _, t := range alike {
		total += int(t.Runs) * len(indexesOf(plans[t.Plan], h.jobs))
	}
	return total, err
}

// indexesOf gives the indexes of jobs in an outline, ascending.
func indexesOf(o core.Outline, jobs []string) []int {
	var out []int
	for _, job := range jobs {
		if i, ok := o[job]; ok {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// A scan looks at rows in the order of time, until there are enough or too many.
type scan struct {
	*API
	h       historyQuery
	until   time.Time
	found   []historyRow
	runs    int // that were looked at
	rows    int
	stopped string // why there may be more; "" = there is not
}

func (s *scan) done() bool {
	enough := s.h.enough()
	return enough >= 0 && len(s.found) >= enough
}

func (s *scan) run(ctx context.Context) error {
	switch {
	case s.h.none || s.h.limit == 0 && !s.h.count && !s.h.withTotal:
		return nil
	case s.h.fires != nil:
		runs, err := s.fires(ctx)
		if err != nil {
			return err
		}
		_, err = s.visit(ctx, runs)
		return err
	}
	f := s.h.filter
	f.Jobs = s.h.jobs
	if enough := s.h.enough(); enough >= 0 {
		f.Limit = min(max(enough, 1), runPage)
	}
	for {
		page, err := s.eng.Runs(ctx, f)
		if err != nil {
			return err
		}
		s.runs += page.Looked
		if next, err := s.visit(ctx, page.Runs); err != nil || !next || page.Next == "" {
			return err
		}
		if s.spent() {
			s.stop(page.Runs)
			return nil
		}
		f.Cursor = page.Next
	}
}

// spent reports whether the query may look no further.
func (s *scan) spent() bool {
	return s.runs >= maxHistory || s.rows >= maxHistory || time.Now().After(s.until)
}

// stop notes how far the scan came.
func (s *scan) stop(runs []core.Run) {
	how := "older"
	if s.h.filter.Oldest {
		how = "newer"
	}
	from := ""
	if len(runs) > 0 {
		from = " than " + s.stamp(runs[len(runs)-1].Created).Format(stampLayout)
	}
	s.stopped = fmt.Sprintf("the query stopped after a look at %d fires and %d history rows: what is %s%s was not looked at; narrow it by schedulerJobGroupUuid, schedulerJobUuid, triggerUuid, fireInstanceId or startTime", s.runs, s.rows, how, from)
}

// fires reads the runs that fireInstanceId names, in the order asked for.
func (s *scan) fires(ctx context.Context) ([]core.Run, error) {
	var runs []core.Run
	for _, fire := range s.h.fires {
		r, err := s.eng.Run(ctx, fire)
		if core.Is(err, core.NotFound) || err == nil && !s.ofWindow(r) {
			continue
		}
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(x, y core.Run) int {
		order := cmp.Compare(historyID(&x, 0), historyID(&y, 0))
		if !s.h.filter.Oldest {
			return -order
		}
		return order
	})
	return runs, nil
}

func (s *scan) ofWindow(r core.Run) bool {
	f := s.h.filter
	return r.Dialect == core.ZStack && !r.Created.Before(f.After) && (f.Before.IsZero() || r.Created.Before(f.Before))
}

// visit finds the rows of runs that pass, and reports whether it wants more runs.
func (s *scan) visit(ctx context.Context, runs []core.Run) (bool, error) {
	plans, err := s.outlines(ctx, runs)
	if err != nil {
		return false, err
	}
	var unread []historyRow
	for i := range runs {
		switch rows := s.rowsOf(&runs[i], s.h, plans[runs[i].Plan]); {
		case s.h.fruitless(&runs[i]):
		case s.h.takesSteps():
			unread = append(unread, rows...)
		default:
			s.rows += len(rows)
			s.found = append(s.found, rows...)
		}
		last := i == len(runs)-1
		if len(unread) >= rowPage || last || s.spent() {
			if err := s.test(ctx, unread); err != nil {
				return false, err
			}
			unread = nil
		}
		if s.done() {
			return false, nil
		}
		if !last && s.spent() {
			s.stop(runs[:i+1])
			return false, nil
		}
	}
	return true, nil
}

// outlines says where in the plans of runs jobs are, if the query is for some.
func (s *scan) outlines(ctx context.Context, runs []core.Run) (map[string]core.Outline, error) {
	if s.h.jobs == nil {
		return nil, nil
	}
	return s.eng.Outlines(ctx, runs)
}

// test keeps the rows that pass by what their steps say.
func (s *scan) test(ctx context.Context, rows []historyRow) error {
	s.rows += len(rows)
	for len(rows) > 0 && !s.done() {
		part := rows[:min(rowPage, len(rows))]
		rows = rows[len(part):]
		read, err := s.readRows(ctx, part, s.h.results)
		if err != nil {
			return err
		}
		for _, r := range read {
			if passes(s.h.ofStep, *r.full) {
				s.found = append(s.found, s.h.keep(r))
			}
		}
	}
	return nil
}

// keep gives a row that was read as it is remembered.
func (h historyQuery) keep(r historyRow) historyRow {
	if h.bySort {
		r.key = classes[history].columns[h.sort].value(*r.full)
	}
	r.full = nil
	return r
}

// rowsOf gives the rows of a run that pass what runs tell, in the order of time; o
// is its outline, where the query is for some jobs.
func (a *API) rowsOf(r *core.Run, h historyQuery, o core.Outline) []historyRow {
	var rows []historyRow
	add := func(i int) {
		if len(h.ofRun) == 0 || passes(h.ofRun, a.historyOf(r, i)) {
			rows = append(rows, historyRow{run: r, index: i})
		}
	}
	if h.jobs != nil {
		for _, i := range indexesOf(o, h.jobs) {
			add(i)
		}
	} else {
		for i := range r.Counts.Total {
			add(i)
		}
	}
	if !h.filter.Oldest {
		slices.Reverse(rows)
	}
	return rows
}

// historyOf gives a row with the run columns only.
func (a *API) historyOf(r *core.Run, index int) historyInventory {
	return historyInventory{
		ID: historyID(r, index), TriggerUUID: nullable(r.Trigger), SchedulerJobGroupUUID: groupOf(r.Target), JobType: r.Type,
		StartTime: a.stamp(r.Created), FireInstanceID: r.ID,
	}
}

func groupOf(t core.Target) nullable {
	if t.Kind != core.GroupTarget {
		return ""
	}
	return nullable(t.UUID)
}

func historyID(r *core.Run, index int) int64 {
	partition, _ := id.RunPartition(r.ID)
	return (r.Created.UnixMilli()-historyEpoch)<<runBits | int64(partition)<<indexBits | int64(index)
}

// readRows completes rows by their steps. Rows whose run was forgotten meanwhile
// are left out.
func (a *API) readRows(ctx context.Context, rows []historyRow, outputs bool) ([]historyRow, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	var of []core.StepsOf
	for _, r := range rows {
		if n := len(of); n == 0 || of[n-1].Run != r.run {
			of = append(of, core.StepsOf{Run: r.run})
		}
		last := &of[len(of)-1]
		last.Steps = append(last.Steps, r.index)
	}
	types, err := a.types(ctx)
	if err != nil {
		return nil, err
	}
	steps, err := a.eng.StepsOf(ctx, of, outputs)
	if err != nil {
		return nil, err
	}
	flat := slices.Concat(steps...)
	out := make([]historyRow, 0, len(rows))
	for k, r := range rows {
		if flat[k].State == "" {
			continue
		}
		v := a.historyOf(r.run, r.index)
		complete(&v, r.run, flat[k], types)
		r.full = &v
		out = append(out, r)
	}
	return out, nil
}
