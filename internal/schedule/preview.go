package schedule

import (
	"fmt"
	"strconv"
	"time"
)

// MaxPreview is the most fires that Preview computes.
const MaxPreview = 1000

// Preview returns the next n slots of spec strictly after from. It returns fewer and exhausted = true when there will never be
// that many. n must be 1 to MaxPreview; every error is a *FieldError.
func Preview(spec Spec, from time.Time, n int) (fires []time.Time, exhausted bool, err error) {
	if n < 1 || n > MaxPreview {
		return nil, false, &FieldError{"n", strconv.Itoa(n), fmt.Sprintf("must be 1 to %d", MaxPreview)}
	}
	s, err := spec.Compile()
	if err != nil {
		return nil, false, err
	}
	for at := from; len(fires) < n; {
		next, ok := s.Next(at)
		if !ok {
			return fires, true, nil
		}
		fires, at = append(fires, next), next
	}
	return fires, false, nil
}
