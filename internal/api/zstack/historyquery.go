package zstack

import (
	"slices"
	"strconv"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// A historyQuery is a query for history, cut into what finds runs, what runs tell
// of their rows, and what takes their steps.
type historyQuery struct {
	query
	filter core.RunFilter
	fires  []string // the runs; nil = those of filter
	jobs   []string // rows of these jobs only; nil = of all
	ofRun  []test
	ofStep []test

	none    bool // nothing can pass
	scanned bool // only a look at each row tells how many pass
	bySort  bool // the order takes the steps
	results bool // a condition or the order takes the outputs of steps
}

// runColumns are the columns that are known without a run's steps.
var runColumns = []string{
	"id", "uuid", "triggerUuid", "schedulerJobGroupUuid", "jobType", "startTime", "fireInstanceId", "__systemTag__", "__userTag__",
}

func (a *API) planHistory(q query) (historyQuery, error) {
	c := classes[history]
	h := historyQuery{query: q, filter: core.RunFilter{
		Dialect: core.ZStack, Kinds: []core.TargetKind{core.GroupTarget, core.JobTarget}, Limit: runPage,
	}}
	for _, cond := range q.conditions {
		t, err := cond.compile(c.columns[cond.field], a.opts.Zone)
		if err != nil {
			return h, err
		}
		h.narrow(cond.field, t)
	}
	inTime := q.sort == "" || q.sort == "id" || q.sort == "startTime"
	h.bySort = !inTime
	h.filter.Oldest = inTime && q.sort != "" && !q.descending
	h.results = h.results || q.sort == "resultDump"
	if !h.filter.Before.IsZero() && !h.filter.After.Before(h.filter.Before) {
		h.none = true
	}
	return h, nil
}

// narrow takes a condition in: it limits the runs to those that may pass, and keeps
// what that leaves to test.
func (h *historyQuery) narrow(field string, t test) {
	values, exact := t.values()
	switch field {
	case "schedulerJobUuid":
		if exact {
			h.jobs = h.only(h.jobs, values)
			return
		}
	case "fireInstanceId":
		if exact {
			h.fires = h.only(h.fires, values)
			return
		}
		h.scanned = true
	case "schedulerJobGroupUuid":
		if exact && h.filter.Targets == nil {
			h.filter.Targets, h.filter.Kind = values, core.GroupTarget
		}
	case "triggerUuid":
		if exact && h.filter.Triggers == nil {
			h.filter.Triggers = values
		}
	case "id", "uuid":
		h.scanned = true
		h.window(idWindow(t))
	case "startTime":
		from, to, whole := timeWindow(t)
		h.window(from, to)
		if whole {
			return
		}
		h.scanned = true
	}
	if slices.Contains(runColumns, field) {
		h.ofRun = append(h.ofRun, t)
		return
	}
	h.ofStep = append(h.ofStep, t)
	h.scanned = h.scanned || field != "success"
	h.results = h.results || field == "resultDump"
}

// only gives what is in both lists, where nil stands for everything.
func (h *historyQuery) only(have, values []string) []string {
	if have != nil {
		values = slices.DeleteFunc(values, func(v string) bool { return !slices.Contains(have, v) })
	}
	h.none = h.none || len(values) == 0
	return values
}

// window limits the creation of runs to [from, to), of which either may be zero.
func (h *historyQuery) window(from, to time.Time) {
	if from.After(h.filter.After) {
		h.filter.After = from
	}
	if !to.IsZero() && (h.filter.Before.IsZero() || to.Before(h.filter.Before)) {
		h.filter.Before = to
	}
}

// values gives the texts of which a column must be one, if that is what is asked.
func (t test) values() (all []string, exact bool) {
	switch t.op {
	case equal:
		s, ok := t.operand.(string)
		return []string{s}, ok
	case among:
		for _, v := range t.set {
			s, ok := v.(string)
			if !ok {
				return nil, false
			}
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		return all, true
	}
	return nil, false
}

// idWindow gives the milliseconds in which the runs of a test's ids were made.
func idWindow(t test) (from, to time.Time) {
	operands := t.set
	if t.operand != nil {
		operands = []any{t.operand}
	}
	var ids []int64
	for _, x := range operands {
		switch x := x.(type) {
		case int64:
			ids = append(ids, x)
		case string: // a uuid that is no number is nobody's
			if n, err := strconv.ParseInt(x, 10, 64); err == nil {
				ids = append(ids, n)
			}
		}
	}
	if _, text := t.operand.(string); text && t.op != equal {
		return from, to // texts have another order
	}
	if len(ids) == 0 {
		if t.op == equal || t.op == among {
			ids = []int64{0}
		} else {
			return from, to
		}
	}
	made := func(id int64) time.Time { return time.UnixMilli(id>>runBits + historyEpoch) }
	first, last := made(slices.Min(ids)), made(slices.Max(ids)).Add(time.Millisecond)
	switch t.op {
	case equal, among:
		return first, last
	case more, atLeast:
		return first, time.Time{}
	case less, atMost:
		return time.Time{}, last
	}
	return from, to
}

// timeWindow gives the instants that pass a test of a time, which is compared by the
// second; whole says that nothing else passes and nothing less.
func timeWindow(t test) (from, to time.Time, whole bool) {
	at, ok := t.operand.(time.Time)
	if !ok {
		return from, to, false
	}
	if at.Before(time.Unix(0, 0)) {
		at = time.Unix(-1, 0) // before any run; the zero time would be no bound
	}
	second := at.Truncate(time.Second)
	next := second.Add(time.Second)
	up := second // the first second that is not before at
	if at.After(second) {
		up = next
	}
	switch t.op {
	case equal:
		return up, next, true // no instant when at is no whole second
	case more:
		return next, time.Time{}, true
	case atLeast:
		return up, time.Time{}, true
	case less:
		return time.Time{}, up, true
	case atMost:
		return time.Time{}, next, true
	}
	return from, to, false
}

// enough is how many rows a query needs to see, or -1 for all.
func (h historyQuery) enough() int {
	if h.bySort || h.count || h.withTotal && !h.tallied() || h.start > maxHistory || h.limit > maxHistory {
		return -1
	}
	return h.start + h.limit
}

// tallied reports whether the runs' own counters tell how many rows pass.
func (h historyQuery) tallied() bool {
	if h.scanned || h.fires != nil || h.jobs != nil && len(h.ofStep) > 0 {
		return false
	}
	named := len(h.filter.Targets) > 0 || len(h.filter.Triggers) > 0 || h.jobs != nil
	return named || !slices.ContainsFunc(h.conditions, func(c condition) bool {
		return c.field == "schedulerJobGroupUuid" || c.field == "triggerUuid"
	})
}

// takesSteps reports whether steps decide about rows or their order.
func (h historyQuery) takesSteps() bool { return len(h.ofStep) > 0 || h.bySort }

// fruitless reports whether a run's counters show that no row of it passes.
func (h historyQuery) fruitless(r *core.Run) bool {
	return slices.ContainsFunc(h.ofStep, func(t test) bool {
		if t.column != classes[history].columns["success"] {
			return false
		}
		some := r.Counts.Succeeded > 0 && t.holds(historyInventory{Success: true})
		return !some && (r.Counts.Succeeded == r.Counts.Total || !t.holds(historyInventory{}))
	})
}

func passes(tests []test, v historyInventory) bool {
	return !slices.ContainsFunc(tests, func(t test) bool { return !t.holds(v) })
}
