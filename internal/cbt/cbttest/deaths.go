package cbttest

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
)

// die calls a method and ends its worker at a step, counted from 0: what the process
// held is given back, as the kernel does, and nothing else is done. False: the method
// takes fewer steps, and is done.
func (c *chain) die(at int, call func() error) (died bool) {
	c.t.Helper()
	c.Hook(func(string) {
		if at--; at == -1 {
			died = true
			runtime.Goexit()
		}
	})
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = call()
	}()
	<-ended
	c.must(err)
	c.Revive()
	return died
}

// apart checks the two intervals before and behind a checkpoint: one shows at least
// what was written surely before it, the other what was surely after, and nothing of
// all that was written is in neither.
func (c *chain) apart(from, at int, before, between, after []blocks) {
	c.t.Helper()
	first, err := c.changes(cbt.Span{From: from, To: at}, cbt.Cursor{})
	c.must(err)
	second, err := c.changes(cbt.Span{From: at}, cbt.Cursor{})
	c.must(err)
	for d := range first {
		older, younger := c.blocksOf(first[d]), c.blocksOf(second[d])
		c.within(before[d], older)
		c.within(after[d], younger)
		c.same(before[d].add(between[d], after[d]), older.add(younger))
	}
}

func (c *chain) within(part, all blocks) {
	c.t.Helper()
	for b := range part {
		if !all[b] {
			c.t.Errorf("block %d is missing", b)
		}
	}
}

func (c *chain) same(want, got blocks) {
	c.t.Helper()
	c.within(want, got)
	for b := range got {
		if !want[b] {
			c.t.Errorf("block %d was not written", b)
		}
	}
}

// next makes the checkpoint that follows the youngest, and returns its number.
func (c *chain) next() int {
	c.t.Helper()
	return c.mark(c.target.Chain.Last() + 1).Seq
}

func together(lists ...[]blocks) []blocks {
	out := make([]blocks, len(lists[0]))
	for d := range out {
		for _, list := range lists {
			out[d] = out[d].add(list[d])
		}
	}
	return out
}

// deaths of a worker that makes a checkpoint, with one in the way that nobody recorded.
func checkpointDeaths(t *testing.T, c *chain) {
	for at, died := 0, true; died; at++ {
		from := c.next()
		w1 := c.scribble(3)
		_, err := c.Driver().Checkpoint(t.Context(), c.target, from+1)
		c.must(err)
		w2 := c.scribble(3)
		died = c.die(at, func() error {
			_, err := c.Driver().Checkpoint(t.Context(), c.target, from+2)
			return err
		})
		w3 := c.scribble(3)
		c.want(cbt.Span{From: from}, together(w1, w2, w3)) // before anybody repairs
		c.mark(from + 2)
		w4 := c.scribble(3)
		c.apart(from, from+2, together(w1, w2), w3, w4)
		c.wantCheckpoints(seqs(c.target.Chain)...)
	}
}

// deaths of a worker that opens a session.
func openDeaths(t *testing.T, c *chain) {
	for at, died := 0, true; died; at++ {
		from := c.next()
		s := cbt.Session{Seq: from + 1, From: from, Token: token}
		w1 := c.scribble(3)
		early := c.Image(0)
		died = c.die(at, func() error {
			_, _, err := c.Driver().Open(t.Context(), c.target, s)
			return err
		})
		w2 := c.scribble(3)
		late := c.Image(0)
		e := c.open(s)[0]
		w3 := []blocks{{}}
		if c.Freezes() {
			w3 = c.scribble(3)
		}
		c.wantMoment(e, early, late, cbt.Span{From: from, To: s.Seq})
		c.must(c.Driver().Close(t.Context(), c.target, s))
		c.apart(from, s.Seq, w1, w2, w3)
	}
}

// wantMoment checks that an export shows one of two moments, and the changes of a span.
func (c *chain) wantMoment(e cbt.Export, early, late []byte, span cbt.Span) {
	c.t.Helper()
	changed, err := c.changes(span, cbt.Cursor{})
	c.must(err)
	image := make([]byte, e.Size)
	client := c.dial(e)
	c.must(client.Read(c.t.Context(), image, 0))
	_ = client.Close()
	if !bytes.Equal(image, early) && !bytes.Equal(image, late) {
		c.t.Error("the export shows neither the moment before nor the one behind the death")
	}
	c.wantExport(e, image, c.blocksOf(changed[0]))
}

// deaths of a worker that ends a session.
func closeDeaths(t *testing.T, c *chain) {
	for at, died := 0, true; died; at++ {
		from := c.next()
		s := cbt.Session{Seq: from + 1, From: from, Token: token}
		w1 := c.scribble(3)
		c.open(s)
		w2 := c.scribble(3)
		died = c.die(at, func() error { return c.Driver().Close(t.Context(), c.target, s) })
		w3 := c.scribble(3)
		c.must(c.Driver().Close(t.Context(), c.target, s))
		c.want(cbt.Span{From: from, To: s.Seq}, w1)
		c.want(cbt.Span{From: s.Seq}, together(w2, w3))
		report, err := c.Driver().Probe(t.Context(), c.target)
		c.must(err)
		if report.Session {
			t.Errorf("something is left after a death at step %d", at)
		}
	}
}

// deaths of a worker that reads changes.
func changesDeaths(t *testing.T, c *chain) {
	c.mark(1)
	w1 := c.scribble(3)
	c.mark(2)
	w2 := c.scribble(3)
	for at, died := 0, true; died; at++ {
		died = c.die(at, func() error {
			return c.Driver().Changes(t.Context(), c.target, cbt.Span{From: 1}, cbt.Cursor{}, func(int, cbt.Extent) error { return nil })
		})
		c.want(cbt.Span{From: 1}, together(w1, w2))
	}
	c.mark(3)
	c.want(cbt.Span{From: 2, To: 3}, w2)
}

// deaths of a worker that forgets a checkpoint.
func trimDeaths(t *testing.T, c *chain) {
	for at, died := 0, true; died; at++ {
		from := c.next()
		w1 := c.scribble(3)
		c.mark(from + 1)
		w2 := c.scribble(3)
		c.mark(from + 2)
		w3 := c.scribble(3)
		c.mark(from + 3)
		c.target.Chain = c.target.Chain.Without(from + 1).Without(from + 3)
		died = c.die(at, func() error { return c.Driver().Trim(t.Context(), c.target) })
		c.want(cbt.Span{From: from, To: from + 2}, together(w1, w2))
		c.want(cbt.Span{From: from + 2}, w3)
		c.must(c.Driver().Trim(t.Context(), c.target))
		c.wantCheckpoints(seqs(c.target.Chain)...)
		c.want(cbt.Span{From: from, To: from + 2}, together(w1, w2))
		w4 := c.scribble(3)
		c.want(cbt.Span{From: from + 2}, together(w3, w4))
	}
}

// deaths of a worker that drops all that is a task's.
func dropDeaths(t *testing.T, c *chain) {
	for at, died := 0, true; died; at++ {
		c.target.Chain = nil
		c.mark(1)
		c.open(cbt.Session{Seq: 2, From: 1, Token: token})
		died = c.die(at, func() error { return c.Driver().Drop(t.Context(), c.target) })
		c.must(c.Driver().Drop(t.Context(), c.target))
		swept, err := c.Driver().Sweep(t.Context(), c.target, func(string) bool { return false })
		c.must(err)
		if len(swept) > 0 {
			t.Errorf("something is left after a death at step %d", at)
		}
	}
}
