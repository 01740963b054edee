package native

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

func (a *API) fire(c *gin.Context) error {
	trigger, err := pathUUID(c, "id", "trigger")
	if err != nil {
		return err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	var in FireRequest
	if err := a.optionalBody(c, &in); err != nil {
		return err
	}
	only, err := uuids("targets", in.Targets)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	before, err := a.eng.Now(ctx)
	if err != nil {
		return err
	}
	entry, err := a.eng.FireNow(ctx, trigger, key, only)
	if err != nil {
		return err
	}
	return a.started(c, key != "" && earlier(entry.Published, before), "/triggers/"+trigger+"/ledger", entryOf(entry))
}

// earlier reports whether something made at t was there before the request came:
// then a request with the same key made it. Both are times of the store, which
// keeps milliseconds. Of two requests at the same time both may count as first.
func earlier(t, request time.Time) bool { return t.Before(request.Truncate(time.Millisecond)) }

func (a *API) ledger(c *gin.Context) error {
	trigger, err := pathUUID(c, "id", "trigger")
	if err != nil {
		return err
	}
	q := queryOf(c)
	from, to := q.time("from"), q.time("to")
	skip, limit := q.number("skip", 0, 0, 1_000_000), q.number("limit", usualPage, 1, mostPage)
	if q.err != nil {
		return q.err
	}
	ctx := c.Request.Context()
	// One more than asked for tells whether there is a next page.
	entries, err := a.eng.Ledger(ctx, trigger, from, to, skip, limit+1)
	if err != nil {
		return err
	}
	days, err := a.eng.LedgerDays(ctx, trigger)
	if err != nil {
		return err
	}
	out := Ledger{Days: daysOf(days, from, to)}
	if len(entries) > limit {
		entries, out.Skip = entries[:limit], skip+limit
	}
	out.Entries = each(entries, entryOf)
	return answer(c, http.StatusOK, out)
}

// daysOf gives the days that [from, to) touches, newest first.
func daysOf(counts map[string]map[core.Decision]int64, from, to time.Time) []LedgerDay {
	out := []LedgerDay{}
	for _, day := range slices.Sorted(maps.Keys(counts)) {
		begin, err := time.Parse(time.DateOnly, day)
		if err != nil || !to.IsZero() && !begin.Before(to) || !from.IsZero() && !begin.AddDate(0, 0, 1).After(from) {
			continue
		}
		out = append(out, LedgerDay{day, counts[day]})
	}
	slices.Reverse(out)
	return out
}
