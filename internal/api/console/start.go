package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// The start page counts the states of the latest runs and lists some of them.
// It asks for one page of runs: a count of all would have to read all.
const (
	countedRuns = 100
	listedRuns  = 20
)

// startData is what the start page shows.
type startData struct {
	Title    string
	Caller   core.Caller
	Monitors bool
	Alert    string // what could not be read

	Counted int // runs that States counts
	States  []stateCount
	Runs    []runRow
	Workers []core.Worker // those that live
	Busy    int
	Slots   int
}

type stateCount struct {
	State core.RunState
	Count int
}

// A runRow is a run as the table shows it.
type runRow struct {
	core.Run
	Made string // RFC 3339, UTC
	Took string // so far, or in all
}

// start shows the start page, with what can be read of it.
func (h *Console) start(c *gin.Context) {
	ctx := c.Request.Context()
	caller, err := core.CallerFrom(ctx)
	if err != nil {
		h.failLogged(c, "caller not identified", err)
		return
	}
	data := startData{Title: "Overview", Caller: caller, Monitors: h.monitors(caller)}
	status := http.StatusOK
	if err := h.fill(ctx, &data); err != nil {
		h.log.WarnContext(ctx, "start page not complete", "err", err)
		status, data.Alert = statusOf(err), "Not everything can be shown: "+core.Text(err)
	}
	h.render(c, status, startPage, data)
}

func (h *Console) fill(ctx context.Context, data *startData) error {
	fleet, err := h.opts.Verbs.Fleet(ctx)
	if err != nil {
		return err
	}
	for _, w := range fleet.Workers {
		if w.Live {
			data.Workers = append(data.Workers, w)
			data.Busy += w.Busy
			data.Slots += w.Slots
		}
	}
	slices.SortFunc(data.Workers, func(a, b core.Worker) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })

	page, err := h.opts.Verbs.Runs(ctx, core.RunFilter{Limit: countedRuns})
	if err != nil {
		return err
	}
	data.Counted = len(page.Runs)
	data.States = countStates(page.Runs)
	for _, r := range page.Runs[:min(len(page.Runs), listedRuns)] {
		data.Runs = append(data.Runs, rowOf(r, fleet.Now))
	}
	return nil
}

// countStates counts the runs by state, in the order of a run's life.
func countStates(runs []core.Run) []stateCount {
	count := map[core.RunState]int{}
	for _, r := range runs {
		count[r.State]++
	}
	var counts []stateCount
	for _, s := range core.RunStates() {
		counts = append(counts, stateCount{s, count[s]})
	}
	return counts
}

func rowOf(r core.Run, now time.Time) runRow {
	row := runRow{Run: r, Made: r.Created.UTC().Format(time.RFC3339)}
	end := r.Ended
	if end.IsZero() {
		end = now
	}
	if took := end.Sub(r.Started); !r.Started.IsZero() && took >= 0 {
		row.Took = took.Round(10 * time.Millisecond).String()
	}
	return row
}
