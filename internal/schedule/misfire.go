package schedule

import (
	"cmp"
	"encoding/json"
	"strconv"
	"time"
)

// MisfirePolicy says what becomes of slots that are found later than the threshold.
type MisfirePolicy string

// The misfire policies.
const (
	FireOnceNow MisfirePolicy = "fire_once_now" // the latest fires, the others are merged into it
	Skip        MisfirePolicy = "skip"          // none fires
	FireAll     MisfirePolicy = "fire_all"      // the newest fire, as many as the catch-up limits allow
)

// The values that a zero field of Misfire stands for.
const (
	DefaultThreshold     = time.Minute
	DefaultCatchupWindow = time.Hour
	DefaultCatchupMax    = 100
)

// maxCatchup bounds CatchupMax: catching up is for a burst, not for a history.
const maxCatchup = 10_000

// Misfire is a trigger's policy for slots whose time passed while nobody could fire them. Zero fields stand for the defaults.
// Its JSON leaves them out; durations are Go duration texts.
type Misfire struct {
	Policy MisfirePolicy `json:"policy,omitzero"` // default FireOnceNow
	// Threshold is the lateness up to which a slot counts as on time.
	Threshold time.Duration `json:"-"`
	// CatchupWindow is the lateness up to which FireAll fires a slot.
	CatchupWindow time.Duration `json:"-"`
	// CatchupMax is the most late slots FireAll fires in one settlement.
	CatchupMax int `json:"catchupMax,omitzero"`
}

// Validate returns a *FieldError for the first invalid field.
func (m Misfire) Validate() error {
	switch m.Policy {
	case "", FireOnceNow, Skip, FireAll:
	default:
		return &FieldError{"policy", string(m.Policy), "must be fire_once_now, skip or fire_all"}
	}
	switch {
	case m.Threshold < 0:
		return &FieldError{"threshold", m.Threshold.String(), "must not be negative"}
	case m.CatchupWindow < 0:
		return &FieldError{"catchupWindow", m.CatchupWindow.String(), "must not be negative"}
	case m.CatchupMax < 0 || m.CatchupMax > maxCatchup:
		return &FieldError{"catchupMax", strconv.Itoa(m.CatchupMax), "must be 1 to " + strconv.Itoa(maxCatchup) + ", or 0 for the default"}
	}
	return nil
}

// withDefaults returns m with its zero fields filled in.
func (m Misfire) withDefaults() Misfire {
	return Misfire{
		Policy:        cmp.Or(m.Policy, FireOnceNow),
		Threshold:     cmp.Or(m.Threshold, DefaultThreshold),
		CatchupWindow: cmp.Or(m.CatchupWindow, DefaultCatchupWindow),
		CatchupMax:    cmp.Or(m.CatchupMax, DefaultCatchupMax),
	}
}

type (
	// plainMisfire is Misfire without its JSON methods.
	plainMisfire Misfire
	misfireJSON  struct {
		plainMisfire
		Threshold     durationText `json:"threshold,omitzero"`
		CatchupWindow durationText `json:"catchupWindow,omitzero"`
	}
)

// MarshalJSON implements json.Marshaler.
func (m Misfire) MarshalJSON() ([]byte, error) {
	return json.Marshal(misfireJSON{plainMisfire(m), durationText(m.Threshold), durationText(m.CatchupWindow)})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown members are ignored, so that an older binary reads a newer row.
func (m *Misfire) UnmarshalJSON(data []byte) error {
	var wire misfireJSON
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*m = Misfire(wire.plainMisfire)
	m.Threshold, m.CatchupWindow = time.Duration(wire.Threshold), time.Duration(wire.CatchupWindow)
	return nil
}
