package stat

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[99-i] = float64(i + 1) // in no order that helps
	}
	for name, row := range map[string]struct {
		samples []float64
		p, want float64
	}{
		"p50 of 1..100":   {hundred, 50, 50},
		"p99 of 1..100":   {hundred, 99, 99},
		"p100 of 1..100":  {hundred, 100, 100},
		"p0 is the least": {hundred, 0, 1},
		"p99 of three":    {[]float64{3, 1, 2}, 99, 3},
		"p50 of two":      {[]float64{2, 1}, 50, 1},
		"of one":          {[]float64{7}, 99, 7},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(row.samples)
			if got := Percentile(row.samples, row.p); got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
			if !slices.Equal(row.samples, before) {
				t.Error("the samples were sorted in place")
			}
		})
	}
	if got := Percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("without samples: got %v, want NaN", got)
	}
}

func TestMedian(t *testing.T) {
	for name, row := range map[string]struct {
		samples []float64
		want    float64
	}{
		"of three": {[]float64{9, 1, 5}, 5},
		"of two":   {[]float64{1, 2}, 1.5},
		"of one":   {[]float64{4}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Median(row.samples); got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("without samples: got %v, want NaN", got)
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	got := Ratios([]float64{10, 30, 50}, []float64{20, 30})
	if want := []float64{0.5, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMillis(t *testing.T) {
	got := Millis([]time.Duration{time.Second, 1500 * time.Microsecond})
	if want := []float64{1000, 1.5}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
