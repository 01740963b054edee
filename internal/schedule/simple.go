package schedule

// every is the series of a simple schedule: slot k is start + k * interval. The phase is the start's, whatever happens to the
// process that fires it.
type every struct {
	start, interval int64 // nanoseconds
	repeat          int   // slots in all; 0 = no limit
}

func (e every) first(from int64) (int64, bool) {
	k := e.index(from)
	if k > e.last() {
		return 0, false
	}
	return e.start + k*e.interval, true
}

func (e every) count(from, to int64) int {
	lowest, highest := e.index(from), e.index(to+1)-1
	return int(max(0, min(highest, e.last())-lowest+1))
}

// index returns the number of the first slot not before the instant. It may be past the last one.
func (e every) index(instant int64) int64 {
	if instant <= e.start {
		return 0
	}
	return (instant-e.start-1)/e.interval + 1
}

// last returns the number of the last slot.
func (e every) last() int64 {
	last := (lastInstant - e.start) / e.interval
	if e.repeat > 0 {
		last = min(last, int64(e.repeat)-1)
	}
	return last
}
