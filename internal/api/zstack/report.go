package zstack

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

const reportCall = "GetSchedulerExecutionReport"

// maxRange is how many intervals a report has at most, as in ZStack.
const maxRange = 31

// latestReport is the last millisecond at which a report may begin, in the year 9998.
const latestReport = 253370764799999

// A reportQuery is what GetSchedulerExecutionReport is asked.
type reportQuery struct {
	start time.Time
	unit  string // one of reportUnits
	count int    // of intervals
	types []string
}

// reportUnits are the units of intervals, as they are spelled.
var reportUnits = []string{"Hour", "Day", "Month"}

// report serves GetSchedulerExecutionReport: how many fires, in each interval from
// startTime on, ended well, badly, partly so, or have not ended. A fire belongs to
// the interval in which it began.
func (a *API) report(c *gin.Context) {
	body, err := a.makeReport(c)
	if err != nil {
		a.refuse(c, err)
		return
	}
	writeJSON(c, http.StatusOK, encode(body))
}

func (a *API) makeReport(c *gin.Context) (map[string][]int64, error) {
	values, err := parameters(c)
	if err != nil {
		return nil, err
	}
	in := &input{call: reportCall, path: c.Param, query: values}
	r := a.readReport(in)
	if in.mismatch != nil {
		return nil, in.mismatch
	}
	ctx, cancel, err := a.reader(c)
	defer cancel()
	switch {
	case err != nil:
		return nil, err
	case in.invalid != nil:
		return nil, in.invalid
	}
	return a.countFires(ctx, r)
}

func (a *API) readReport(in *input) reportQuery {
	start, ok := in.number("startTime")
	if !ok {
		in.mandatory("startTime")
	}
	if start < 0 || start > latestReport {
		in.fail(badArgument("startTime out of range"))
	}
	r := reportQuery{start: time.UnixMilli(start).In(a.opts.Zone), unit: in.mustText("intervalTimeUnit")}
	if i := slices.IndexFunc(reportUnits, func(u string) bool { return strings.EqualFold(u, r.unit) }); i >= 0 {
		r.unit = reportUnits[i]
	} else {
		in.fail(badArgument("invalid time unit: %s", excerpt(r.unit)))
	}
	n, ok := in.number("range")
	if !ok {
		in.mandatory("range")
	}
	if n < 0 || n > maxRange {
		in.fail(badArgument("field[range] of message[API%sMsg] must be in the range of [0, %d], but was %d", in.call, maxRange, n))
		n = 0
	}
	r.count = int(n)
	r.types = slices.DeleteFunc(in.texts("schedulerJobTypes"), func(s string) bool { return s == "" })
	if len(r.types) == 0 {
		in.mandatory("schedulerJobTypes")
	}
	return r
}

// cuts gives the borders of the intervals, one more than there are. Hours are 3600 s
// long; days and months are the calendar's in the zone of start, so that a day may
// have 23 hours. Months after the 31st end on the last day of a shorter one.
func (r reportQuery) cuts() []time.Time {
	out := make([]time.Time, r.count+1)
	for i := range out {
		switch r.unit {
		case "Hour":
			out[i] = r.start.Add(time.Duration(i) * time.Hour)
		case "Day":
			out[i] = r.start.AddDate(0, 0, i)
		default:
			out[i] = monthsLater(r.start, i)
		}
	}
	return out
}

func monthsLater(t time.Time, n int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, 0, 0, 0, 0, t.Location())
	last := first.AddDate(0, 1, -1).Day()
	return time.Date(first.Year(), first.Month(), min(t.Day(), last), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
}

// reportColumns are the columns of a report. A fire is a success when all of its jobs
// are, a failure when none is.
var reportColumns = map[core.RunClass]string{
	core.RunWhole: "successRecords", core.RunNone: "failureRecords", core.RunPartly: "partialSuccessRecords", core.RunOpen: "waitingRecords",
}

// countFires counts the runs of each interval by the counters that they keep
// themselves.
func (a *API) countFires(ctx context.Context, r reportQuery) (map[string][]int64, error) {
	out := make(map[string][]int64, len(reportColumns))
	for _, name := range reportColumns {
		out[name] = make([]int64, r.count)
	}
	parts, err := a.eng.Tally(ctx, core.RunFilter{Dialect: core.ZStack}, r.cuts())
	for i, part := range parts {
		for _, t := range part {
			if slices.ContainsFunc(r.types, func(s string) bool { return strings.EqualFold(s, t.Type) }) {
				out[reportColumns[t.Class]][i] += t.Runs
			}
		}
	}
	return out, err
}
