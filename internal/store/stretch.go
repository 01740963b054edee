package store

import (
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/core"
)

// A stretch is steps of a run that were dispatched together, one way. They have no rows
// until something happens to them; see lib.lua.
type stretch struct {
	from, to int
	random   string
	queue    string
}

// stretchesOf reads the field `together` of a run.
func stretchesOf(text string) []stretch {
	var out []stretch
	for line := range strings.Lines(text) {
		span, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		random, queue, ok2 := strings.Cut(rest, ":")
		from, to, ok3 := spanOf(span)
		if ok && ok2 && ok3 {
			out = append(out, stretch{from, to, random, queue})
		}
	}
	return out
}

// spanOf reads "<from>-<to>".
func spanOf(text string) (from, to int, ok bool) {
	first, behind, ok := strings.Cut(text, "-")
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(behind)
	return from, to, ok && err == nil && err2 == nil && 0 <= from && from < to
}

// readSentMember reads a member of the set of dispatches that have not begun: the first
// of its steps, and how many there are.
func readSentMember(member string) (first core.Dispatch, count int, err error) {
	run, rest, _ := strings.Cut(member, ":")
	span, fence, _ := strings.Cut(rest, ":")
	from, to, ok := spanOf(span)
	if !ok {
		first, err = core.ParseDispatch(member)
		return first, 1, err
	}
	first, err = core.ParseDispatch(run + ":" + strconv.Itoa(from) + ":" + fence)
	return first, to - from, err
}

// member names the stretch in the set of dispatches that have not begun.
func (t stretch) member(run string) string {
	return run + ":" + strconv.Itoa(t.from) + "-" + strconv.Itoa(t.to) + ":1-" + t.random
}

// firstOf gives the first step of the stretch that has no row among those of its run; -1
// if all have.
func (t stretch) firstOf(rows map[string]string) int {
	for i := t.from; i < t.to; i++ {
		if rows["s"+strconv.Itoa(i)] == "" {
			return i
		}
	}
	return -1
}

// row is what the step's row would be.
func (t stretch) row() string { return "d|1|" + t.random + "|0|0|0|" + t.queue + "||0|0|0|" }

// rowOf gives the row of a step: its own, or the one that its stretch tells; "" for one
// that is not made.
func rowOf(own string, stretches []stretch, i int) string {
	if own != "" {
		return own
	}
	for _, t := range stretches {
		if t.from <= i && i < t.to {
			return t.row()
		}
	}
	return ""
}
