package store

import (
	"reflect"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// Two planned steps that differ in any field have different plans: a field that is
// added to them must be compared too.
func TestSamePlannedLooksAtEveryField(t *testing.T) {
	whole := core.PlannedStep{
		Job: "j", Name: "n", Type: "t", Parameters: map[string]string{"k": "v"}, Target: "g", Timeout: time.Second,
		Retry: core.Retry{Attempts: 1, Backoff: 1, Factor: 1, Max: 1, Jitter: 1}, Priority: core.PriorityLow,
	}
	same := whole
	same.Parameters = map[string]string{"k": "v"}
	if !samePlanned(whole, same) {
		t.Error("equal steps count as different")
	}
	differs := func(name string, field func(*core.PlannedStep) reflect.Value) {
		other := whole
		f := field(&other)
		if f.IsZero() {
			t.Errorf("the test does not set %s", name)
		}
		f.SetZero()
		if samePlanned(whole, other) {
			t.Errorf("steps that differ in %s count as equal", name)
		}
	}
	for i := range reflect.TypeFor[core.PlannedStep]().NumField() {
		differs(reflect.TypeFor[core.PlannedStep]().Field(i).Name, func(p *core.PlannedStep) reflect.Value { return reflect.ValueOf(p).Elem().Field(i) })
	}
	for i := range reflect.TypeFor[core.Retry]().NumField() {
		differs("Retry."+reflect.TypeFor[core.Retry]().Field(i).Name, func(p *core.PlannedStep) reflect.Value { return reflect.ValueOf(&p.Retry).Elem().Field(i) })
	}
}

func TestPlanNamesForgetWhatIsLarge(t *testing.T) {
	var n planNames
	small, large := make([]core.PlannedStep, namedSteps), make([]core.PlannedStep, namedSteps+1)
	n.note("small", small, "a")
	n.note("large", large, "b")
	if name, ok := n.recall("small", small); !ok || name != "a" {
		t.Errorf("small: got %q, %v; want it remembered", name, ok)
	}
	if _, ok := n.recall("large", large); ok {
		t.Error("a plan of many steps is remembered")
	}
	if _, ok := n.recall("small", small[1:]); ok {
		t.Error("a shorter plan is taken for the one that is remembered")
	}
}
