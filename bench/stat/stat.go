// Package stat is the harness's arithmetic.
package stat

import (
	"math"
	"slices"
	"time"
)

// Percentile gives the value below or at which p percent of the samples lie, by
// the nearest rank; NaN without samples.
func Percentile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}

// Median gives the middle of the samples; of an even number, the mean of the two
// in the middle.
func Median(samples []float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Ratios divides the samples of one round by those of the same round of the
// reference: what disturbed the machine in a round, disturbed both.
func Ratios(of, reference []float64) []float64 {
	out := make([]float64, min(len(of), len(reference)))
	for i := range out {
		out[i] = of[i] / reference[i]
	}
	return out
}

// Millis gives durations in milliseconds.
func Millis(ds []time.Duration) []float64 {
	out := make([]float64, len(ds))
	for i, d := range ds {
		out[i] = float64(d) / float64(time.Millisecond)
	}
	return out
}
