package zstack

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// FuzzHistoryQuery feeds any query string through reading, checking and planning:
// nothing panics, and no plan leaves out a row that passes every condition.
func FuzzHistoryQuery(f *testing.F) {
	at := time.Date(2026, 3, 29, 1, 30, 5, 250e6, time.UTC)
	run := &core.Run{
		ID: id.DerivedRun(at, 3, "run"), Target: core.Target{Kind: core.GroupTarget, UUID: "a1"}, Trigger: "b2", Type: "startVm",
		Created: at, Dialect: core.ZStack, Counts: core.StepCounts{Total: 2, Succeeded: 1},
	}
	a := &API{opts: Options{Zone: time.UTC}}
	row := a.historyOf(run, 1)
	row.SchedulerJobUUID, row.Success = "c3", true
	for _, s := range []string{
		"q=schedulerJobGroupUuid=A1&sort=-startTime&limit=50", "q=schedulerJobUuid?=c3,d4&q=schedulerJobUuid=C3", "q=fireInstanceId=" + run.ID,
		"q=startTime>=2026-03-29&q=startTime<2026-03-30", "q=startTime=1774747805250", "q=startTime<=1774747805&sort=%2Bid", "q=startTime?=2026-03-29 01:30:05",
		"q=id>=5&q=uuid~=%25", "q=uuid=x", "q=id?=1,2,999999999999999999", "q=id!=-5", "q=triggerUuid is null", "q=success!=false&count=true", "q=startTime<0001-01-01",
		"fields=id,success&replyWithCount=TRUE&start=3", "limit=9e9&filterName=x", "q.0=jobType~=%25vm",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := parseQuery(values)
		if err != nil || classes[history].check(q) != nil {
			return
		}
		h, err := a.planHistory(q)
		if err != nil {
			return
		}
		for _, c := range q.conditions {
			compiled, err := c.compile(classes[history].columns[c.field], time.UTC)
			if err != nil {
				t.Fatalf("%q was planned and does not compile: %v", text, err)
			}
			if !compiled.holds(row) {
				return // it need not be found
			}
		}
		allows := func(list []string, x string) bool { return list == nil || slices.Contains(list, x) }
		filter := h.filter
		switch {
		case h.none, h.fruitless(run):
			t.Errorf("%q is planned to find nothing", text)
		case at.Before(filter.After), !filter.Before.IsZero() && !at.Before(filter.Before):
			t.Errorf("%q looks at [%v, %v) only", text, filter.After, filter.Before)
		case !allows(filter.Targets, "a1"), !allows(filter.Triggers, "b2"), !allows(h.jobs, "c3"), !allows(h.fires, run.ID):
			t.Errorf("%q looks at the targets %q, triggers %q, jobs %q and fires %q only", text, filter.Targets, filter.Triggers, h.jobs, h.fires)
		case !passes(h.ofRun, row), !passes(h.ofStep, row):
			t.Errorf("%q tests away a row that passes", text)
		case len(a.rowsOf(run, h, core.Outline{"c3": 1})) == 0:
			t.Errorf("%q finds no row in its run", text)
		}
	})
}
