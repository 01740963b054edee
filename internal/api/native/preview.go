package native

import (
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// usualFires is how many fires a preview shows unless asked for another number.
const usualFires = 10

// previewQuery is preview for a cron expression in the address.
func (a *API) previewQuery(c *gin.Context) error {
	q := queryOf(c)
	n := q.number("n", usualFires, 1, schedule.MaxPreview)
	in := PreviewRequest{
		Expression: q.text("expression"), Dialect: schedule.Dialect(q.text("dialect")), Zone: q.text("zone"),
		Gap: schedule.Gap(q.text("gap")), Overlap: schedule.Overlap(q.text("overlap")), From: q.time("from"), N: &n,
	}
	if q.err != nil {
		return q.err
	}
	return a.answerPreview(c, in)
}

func (a *API) preview(c *gin.Context) error {
	var in PreviewRequest
	if err := a.body(c, &in); err != nil {
		return err
	}
	return a.answerPreview(c, in)
}

func (a *API) answerPreview(c *gin.Context, in PreviewRequest) error {
	spec, prefix, err := in.spec()
	if err != nil {
		return err
	}
	from := in.From
	if from.IsZero() {
		if from, err = a.eng.Now(c.Request.Context()); err != nil {
			return err
		}
	}
	if spec.Kind == schedule.Simple && spec.Start.IsZero() {
		spec.Start = from.Truncate(time.Millisecond).UTC()
		from = spec.Start.Add(-1) // the start itself is the first slot
	}
	n := usualFires
	if in.N != nil {
		n = *in.N
	}
	fires, exhausted, err := schedule.Preview(spec, from, n)
	if err != nil {
		return previewError(prefix, err)
	}
	if fires == nil {
		fires = []time.Time{}
	}
	return answer(c, http.StatusOK, Preview{fires, exhausted})
}

// spec gives the schedule that is asked for, and what its fields' names begin
// with in the request.
func (p PreviewRequest) spec() (s schedule.Spec, prefix string, err error) {
	flat := schedule.Spec{Kind: schedule.Cron, Dialect: p.Dialect, Expression: p.Expression, Zone: p.Zone, Gap: p.Gap, Overlap: p.Overlap}
	if p.Schedule == nil {
		s = flat
	} else {
		if flat != (schedule.Spec{Kind: schedule.Cron}) {
			return s, "", core.InvalidField("schedule", "give either schedule or expression with its dialect, zone, gap and overlap")
		}
		s, prefix = p.Schedule.spec(), "schedule."
	}
	if len(s.Expression) > core.MaxCron {
		err = core.InvalidField(prefix+"expression", "the cron expression has %d characters, at most %d are allowed", len(s.Expression), core.MaxCron)
	}
	return s, prefix, err
}

func previewError(prefix string, err error) error {
	var f *schedule.FieldError
	if !errors.As(err, &f) {
		return err
	}
	if f.Field == "n" {
		prefix = ""
	}
	return core.InvalidField(prefix+f.Field, "%s", f.Error())
}
