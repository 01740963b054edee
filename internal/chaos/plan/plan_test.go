package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTwentySeedsCoverEveryKind(t *testing.T) {
	count, pairs := map[Kind]int{}, 0
	for seed := range uint64(20) {
		faults := Of(seed+1, time.Minute, Kinds())
		for i, f := range faults {
			count[f.Kind]++
			if i > 0 && f.At < faults[i-1].At+faults[i-1].For {
				pairs++
			}
		}
		if len(faults) < 4 {
			t.Errorf("seed %d has %d faults, want 4 at least", seed+1, len(faults))
		}
	}
	for _, k := range Kinds() {
		if count[k] < 3 {
			t.Errorf("%s strikes %d times in 20 seeds, want 3 at least", k, count[k])
		}
	}
	if pairs < 20 {
		t.Errorf("%d faults overlap another one, want 20 at least", pairs)
	}
	t.Log(count, pairs)
}

func TestPlansKeepTheirRules(t *testing.T) {
	const d = time.Minute
	for seed := range uint64(500) {
		faults := Of(seed, d, Kinds())
		if diff := cmp.Diff(faults, Of(seed, d, Kinds())); diff != "" {
			t.Fatalf("seed %d has two plans:\n%s", seed, diff)
		}
		first := faults[0]
		if !first.Kind.LosesWorker() || first.At < WarmUp || first.For < 2*time.Second {
			t.Errorf("seed %d begins with %s, want the loss of a worker after the warm-up", seed, first)
		}
		for i, f := range faults {
			if f.At+f.For > d {
				t.Errorf("seed %d: %s ends after the load", seed, f)
			}
			if i > 0 && f.Kind.HitsStore() && f.At < first.At+promisedElsewhere {
				t.Errorf("seed %d: %s strikes while the recovery of %s is measured", seed, f, first)
			}
			for _, g := range faults[:i] {
				if g.At+g.For <= f.At {
					continue
				}
				a, b := traits[f.Kind].strikes, traits[g.Kind].strikes
				if a == b && (a != worker || f.Victim == g.Victim) {
					t.Errorf("seed %d: %s strikes the same as %s", seed, f, g)
				}
			}
		}
	}
}

func TestChosenKinds(t *testing.T) {
	kinds, err := ParseKinds("kill-nats, disk-full")
	if err != nil {
		t.Fatal(err)
	}
	faults := Of(1, 2*time.Minute, kinds)
	if len(faults) < 10 {
		t.Errorf("%d faults of two kinds in two minutes, want 10 at least", len(faults))
	}
	for _, f := range faults {
		if !slices.Contains(kinds, f.Kind) {
			t.Errorf("%s was not asked for", f)
		}
	}
	if _, err := ParseKinds("kill-nats,flood"); err == nil {
		t.Error("an unknown kind was taken")
	}
}
