package core

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Fence guards a step against stale workers. The counter is raised by every
// dispatch of the step; the random part keeps two timelines apart after a
// fail-over that lost writes.
type Fence struct {
	Counter int64
	Random  string // 16 hex digits
}

// String gives "<counter>-<random>".
func (f Fence) String() string { return strconv.FormatInt(f.Counter, 10) + "-" + f.Random }

// A Dispatch is one sending of one step to a queue. Its id is the whole
// content of a queue message and the id of the queue's task.
type Dispatch struct {
	Run     string
	Step    int
	Fence   Fence
	Queue   string
	Timeout time.Duration // of the attempt; the queue's own timeout lies beyond it
}

// ID gives "<run>:<step>:<fence>".
func (d Dispatch) ID() string {
	return d.Run + ":" + strconv.Itoa(d.Step) + ":" + d.Fence.String()
}

// Key gives "<run>:<step>", which all dispatches of the step share.
func (d Dispatch) Key() string { return d.Run + ":" + strconv.Itoa(d.Step) }

// ParseDispatch reads what ID wrote. Queue and Timeout are not part of it.
func ParseDispatch(id string) (Dispatch, error) {
	run, rest, ok := strings.Cut(id, ":")
	step, fence, ok2 := strings.Cut(rest, ":")
	counter, random, ok3 := strings.Cut(fence, "-")
	n, err := strconv.Atoi(step)
	c, err2 := strconv.ParseInt(counter, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || err2 != nil || n < 0 || len(run) != 32 {
		return Dispatch{}, fmt.Errorf("read dispatch id %q: want <run>:<step>:<counter>-<random>", id)
	}
	return Dispatch{Run: run, Step: n, Fence: Fence{c, random}}, nil
}
