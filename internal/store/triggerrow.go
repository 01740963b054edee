package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// A triggerRow is a trigger as it is stored, apart from what stands beside it: its
// uuid, which is the field, and its version and revision, which head the row. Names
// are short because there may be a hundred thousand of them.
type triggerRow struct {
	Account     string         `json:"a,omitempty"`
	Dialect     core.Dialect   `json:"d,omitempty"`
	Name        string         `json:"n,omitempty"`
	Description string         `json:"t,omitempty"`
	Created     instant        `json:"c,omitzero"`
	Updated     instant        `json:"u,omitzero"` // unless it is Created
	Schedule    scheduleRow    `json:"s"`
	Misfire     misfireRow     `json:"m,omitzero"`
	Overlap     core.Overlap   `json:"o,omitzero"`
	Disabled    bool           `json:"off,omitempty"`
	Targets     []core.Binding `json:"b,omitempty"`
	Floating    bool           `json:"f,omitempty"`
	Deleted     instant        `json:"x,omitzero"`
	Born        int64          `json:"w,omitempty"`
	Request     string         `json:"q,omitempty"`
}

// These convert from and to what they store only as long as both have the same fields.
type (
	scheduleRow struct {
		Kind       schedule.Kind    `json:"k,omitempty"`
		Dialect    schedule.Dialect `json:"d,omitempty"`
		Expression string           `json:"x,omitempty"`
		Zone       string           `json:"z,omitempty"`
		Gap        schedule.Gap     `json:"g,omitempty"`
		Overlap    schedule.Overlap `json:"o,omitempty"`
		Interval   time.Duration    `json:"i,omitempty"` // ns
		Start      time.Time        `json:"b,omitzero"`
		End        time.Time        `json:"e,omitzero"`
		Repeat     int              `json:"r,omitempty"`
	}
	misfireRow struct {
		Policy        schedule.MisfirePolicy `json:"p,omitempty"`
		Threshold     time.Duration          `json:"t,omitempty"` // ns
		CatchupWindow time.Duration          `json:"w,omitempty"` // ns
		CatchupMax    int                    `json:"m,omitempty"`
	}
)

// An instant is stored as Unix microseconds, which is what Redis TIME has.
type instant struct{ time.Time }

func (i instant) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, i.UnixMicro(), 10), nil
}

func (i *instant) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(string(b), 10, 64)
	i.Time = time.UnixMicro(n).UTC()
	return err
}

func encodeTrigger(t core.Trigger) ([]byte, error) {
	r := triggerRow{
		Account: t.Account, Dialect: t.Dialect, Name: t.Name, Description: t.Description,
		Created: instant{t.Created}, Schedule: scheduleRow(t.Schedule), Misfire: misfireRow(t.Misfire), Overlap: t.Overlap,
		Disabled: !t.Enabled, Targets: t.Targets, Floating: t.Floating, Deleted: instant{t.Deleted},
		Born: t.Born, Request: t.Request,
	}
	if !t.Updated.Equal(t.Created) {
		r.Updated = instant{t.Updated}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode trigger: %w", err)
	}
	return b, nil
}

// decodeTrigger reads "<version>|<revision>|<JSON>". Rows of Takt before the short
// names begin with the uuid.
func decodeTrigger(uuid, row string) (core.Trigger, error) {
	parts := strings.SplitN(row, "|", 3)
	if len(parts) != 3 {
		return core.Trigger{}, fmt.Errorf("read trigger row: no version and revision")
	}
	var t core.Trigger
	var err error
	if strings.HasPrefix(parts[2], `{"uuid":`) {
		err = json.Unmarshal([]byte(parts[2]), &t)
	} else {
		t, err = decodeShort(uuid, parts)
	}
	if err != nil {
		return core.Trigger{}, fmt.Errorf("read trigger row: %w", err)
	}
	return t, nil
}

func decodeShort(uuid string, parts []string) (core.Trigger, error) {
	version, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return core.Trigger{}, err
	}
	revision, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return core.Trigger{}, err
	}
	var r triggerRow
	if err := json.Unmarshal([]byte(parts[2]), &r); err != nil {
		return core.Trigger{}, err
	}
	if r.Updated.IsZero() {
		r.Updated = r.Created
	}
	return core.Trigger{
		Meta: core.Meta{
			UUID: uuid, Account: r.Account, Dialect: r.Dialect, Name: r.Name, Description: r.Description,
			Version: version, Created: r.Created.Time, Updated: r.Updated.Time, Request: r.Request,
		},
		Schedule: schedule.Spec(r.Schedule), Misfire: schedule.Misfire(r.Misfire), Overlap: r.Overlap, Enabled: !r.Disabled,
		Targets: r.Targets, Floating: r.Floating, Revision: revision, Born: r.Born, Deleted: r.Deleted.Time,
	}, nil
}
