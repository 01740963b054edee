package cbttest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
)

func exactBlocks(t *testing.T, c *chain) {
	c.scribble(20)
	first := c.mark(1)
	if first.Changed != 0 || len(first.Sizes) != 2 || first.Sizes[0] != diskSize {
		t.Errorf("got first point %+v", first)
	}
	written := c.scribble(30)
	second := c.mark(2)
	c.scribble(10)
	c.want(cbt.Span{From: 1, To: 2}, written)
	if want := uint64(len(written[0])+len(written[1])) * c.target.Block(); second.Changed != want {
		t.Errorf("got %d bytes changed, want %d", second.Changed, want)
	}
}

func anyDelta(_ *testing.T, c *chain) {
	c.mark(1)
	var written []blocks
	for seq := 2; seq <= 4; seq++ {
		written = append(written, c.scribble(8)[0])
		c.mark(seq)
	}
	for from := 1; from <= 4; from++ {
		for to := from; to <= 4; to++ {
			want := blocks{}.add(written[from-1 : to-1]...)
			c.want(cbt.Span{From: from, To: to}, []blocks{want})
		}
	}
}

func followed(t *testing.T, c *chain) {
	c.scribble(30)
	c.mark(1)
	replica := c.Image(0)
	for seq := 2; seq <= 4; seq++ {
		c.scribble(15)
		c.mark(seq)
		extents, err := c.changes(cbt.Span{From: seq - 1, To: seq}, cbt.Cursor{})
		c.must(err)
		now := c.Image(0)
		for _, e := range extents[0] {
			copy(replica[e.Offset:e.End()], now[e.Offset:e.End()])
		}
		if !bytes.Equal(now, replica) {
			t.Fatalf("the copy differs at checkpoint %d", seq)
		}
	}
}

func allocatedCovers(t *testing.T, c *chain) {
	c.scribble(12)
	extents, err := c.changes(cbt.Span{}, cbt.Cursor{})
	c.must(err)
	for d := range c.target.Disks {
		image := c.Image(d)
		for _, e := range extents[d] {
			clear(image[e.Offset:e.End()])
		}
		for at, value := range image {
			if value != 0 {
				t.Fatalf("byte %d of disk %d has data and is not allocated", at, d)
			}
		}
		if cbt.Bytes(extents[d]) >= diskSize {
			t.Errorf("all of disk %d is allocated", d)
		}
	}
}

func resumes(t *testing.T, c *chain) {
	c.mark(1)
	c.scribble(30)
	whole, err := c.changes(cbt.Span{From: 1}, cbt.Cursor{})
	c.must(err)
	for _, from := range []cbt.Cursor{{Disk: 0, Offset: 3 << 20}, {Disk: 0, Offset: diskSize}, {Disk: 1, Offset: 100_000}, {Disk: 1, Offset: 0}} {
		want := make([][]cbt.Extent, len(whole))
		for d := range whole {
			for _, e := range whole[d] {
				if part, ok := from.Cut(d, e); ok {
					want[d] = append(want[d], part)
				}
			}
		}
		got, err := c.changes(cbt.Span{From: 1}, from)
		c.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %+v (-want +got):\n%s", from, diff)
		}
	}
	enough, calls := errors.New("enough"), 0
	err = c.Driver().Changes(t.Context(), c.target, cbt.Span{From: 1}, cbt.Cursor{}, func(int, cbt.Extent) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("got error %v after %d calls, want that of the first", err, calls)
	}
}

func twice(t *testing.T, c *chain) {
	c.mark(1)
	written := c.scribble(10)
	p, err := c.Driver().Checkpoint(t.Context(), c.target, 2) // its worker dies before it is recorded
	c.must(err)
	c.Revive()
	again, err := c.Driver().Checkpoint(t.Context(), c.target, 2)
	c.must(err)
	if p.Changed != again.Changed || !cmp.Equal(p.Sizes, again.Sizes) {
		t.Errorf("got %+v, then %+v", p, again)
	}
	c.record(again)
	c.mark(2)
	c.want(cbt.Span{From: 1, To: 2}, written)
	c.wantCheckpoints(1, 2)
}

func unrecorded(t *testing.T, c *chain) {
	c.mark(1)
	before := c.scribble(8)
	_, err := c.Driver().Checkpoint(t.Context(), c.target, 2) // given up
	c.must(err)
	after := c.scribble(8)
	c.want(cbt.Span{From: 1}, []blocks{before[0].add(after[0])})
	c.mark(3)
	c.scribble(8)
	c.want(cbt.Span{From: 1, To: 3}, []blocks{before[0].add(after[0])})
	c.wantCheckpoints(1, 3)
}

func forgotten(_ *testing.T, c *chain) {
	c.mark(1)
	first := c.scribble(8)
	c.mark(2)
	second := c.scribble(8)
	c.mark(3)
	third := c.scribble(8)
	c.mark(4)
	c.target.Chain = c.target.Chain.Without(2)
	c.want(cbt.Span{From: 1, To: 3}, []blocks{first[0].add(second[0])}) // before it is trimmed, too
	c.must(c.Driver().Trim(c.t.Context(), c.target))
	c.must(c.Driver().Trim(c.t.Context(), c.target))
	c.wantCheckpoints(1, 3, 4)
	c.want(cbt.Span{From: 1, To: 3}, []blocks{first[0].add(second[0])})
	c.want(cbt.Span{From: 1, To: 4}, []blocks{first[0].add(second[0], third[0])})
	c.target.Chain = c.target.Chain.Without(1)
	c.must(c.Driver().Trim(c.t.Context(), c.target))
	c.wantCheckpoints(3, 4)
	c.want(cbt.Span{From: 3, To: 4}, third)
}

func forgetYoungest(_ *testing.T, c *chain) {
	c.mark(1)
	first := c.scribble(8)
	c.mark(2)
	second := c.scribble(8)
	c.target.Chain = c.target.Chain.Without(2)
	c.must(c.Driver().Trim(c.t.Context(), c.target))
	third := c.scribble(8)
	c.want(cbt.Span{From: 1}, []blocks{first[0].add(second[0], third[0])})
	c.mark(5)
	c.want(cbt.Span{From: 1, To: 5}, []blocks{first[0].add(second[0], third[0])})
	c.wantCheckpoints(1, 5)
}

func stale(t *testing.T, c *chain) {
	c.mark(1)
	old := c.target
	c.mark(3)
	if _, err := c.Driver().Checkpoint(t.Context(), old, 2); !errors.Is(err, cbt.ErrStale) {
		t.Errorf("got error %v from a stale worker's checkpoint, want ErrStale", err)
	}
	if _, _, err := c.Driver().Open(t.Context(), old, cbt.Session{Seq: 2, From: 1, Token: token}); !errors.Is(err, cbt.ErrStale) {
		t.Errorf("got error %v from a stale worker's session, want ErrStale", err)
	}
	if _, err := c.Driver().Checkpoint(t.Context(), c.target, 2); !errors.Is(err, cbt.ErrStale) {
		t.Errorf("got error %v for a number that was passed over, want ErrStale", err)
	}
	c.wantCheckpoints(1, 3)
}

func session(t *testing.T, c *chain) {
	c.scribble(20)
	full := cbt.Session{Seq: 1, Token: token}
	images := [][]byte{c.Image(0), c.Image(1)}
	exports := c.open(full)
	var written []blocks
	if c.Freezes() {
		written = c.scribble(20)
	}
	for d, e := range exports {
		if e.Mode != cbt.ModeFull || e.Context != "" || e.Bitmap != cbt.CheckpointName(c.target.Task, 1) {
			t.Errorf("got export %+v", e)
		}
		c.wantExport(e, images[d], nil)
	}
	c.must(c.Driver().Close(t.Context(), c.target, full))
	if !c.Freezes() {
		written = c.scribble(20)
	}
	images = [][]byte{c.Image(0), c.Image(1)}
	incremental := cbt.Session{Seq: 2, From: 1, Token: token}
	exports = c.open(incremental)
	if c.Freezes() {
		c.scribble(20)
	}
	for d, e := range exports {
		if e.Mode != cbt.ModeIncremental {
			t.Errorf("got mode %s", e.Mode)
		}
		c.wantExport(e, images[d], written[d])
	}
	c.want(cbt.Span{From: 1, To: 2}, written)
	c.must(c.Driver().Close(t.Context(), c.target, incremental))
	c.must(c.Driver().Close(t.Context(), c.target, incremental))
	report, err := c.Driver().Probe(t.Context(), c.target)
	c.must(err)
	if report.Session || report.Broken != nil {
		t.Errorf("after the session got %+v", report)
	}
}

func sessionAgain(t *testing.T, c *chain) {
	c.mark(1)
	written := c.scribble(10)
	image := c.Image(0)
	s := cbt.Session{Seq: 2, From: 1, Token: token}
	_, first, err := c.Driver().Open(t.Context(), c.target, s) // not recorded
	c.must(err)
	c.Revive()
	if c.Freezes() {
		c.scribble(10)
	}
	again := c.open(s)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the session changed (-first +again):\n%s", diff)
	}
	c.wantExport(again[0], image, written[0])
	if third := c.open(s); !cmp.Equal(first, third) {
		t.Errorf("the recorded session changed: %v", cmp.Diff(first, third))
	}
	report, err := c.Driver().Probe(t.Context(), c.target)
	c.must(err)
	if !report.Session {
		t.Error("Probe does not see the session")
	}
	c.must(c.Driver().Close(t.Context(), c.target, s))
}

func sessionGone(t *testing.T, c *chain) {
	c.mark(1)
	s := cbt.Session{Seq: 2, From: 1, Token: token}
	c.open(s)
	c.must(c.Driver().Close(t.Context(), c.target, s))
	c.Write(0, 0, 512, 77)
	if _, _, err := c.Driver().Open(t.Context(), c.target, s); !errors.Is(err, cbt.ErrSessionGone) {
		t.Errorf("got error %v, want ErrSessionGone", err)
	}
	c.wantCheckpoints(1, 2)
}

func reader(t *testing.T, c *chain) {
	s := cbt.Session{Seq: 1, Token: token}
	client := c.dial(c.open(s)[0])
	if err := c.Driver().Close(t.Context(), c.target, s); !errors.Is(err, cbt.ErrInUse) {
		t.Fatalf("got error %v with a reader, want ErrInUse", err)
	}
	c.must(client.Read(t.Context(), make([]byte, 512), 0))
	s.Force = true
	c.must(c.Driver().Close(t.Context(), c.target, s))
	if err := client.Read(t.Context(), make([]byte, 512), 0); err == nil {
		t.Error("a reader goes on after the session was closed by force")
	}
}

func loss(t *testing.T, c *chain) {
	c.mark(1)
	c.scribble(5)
	c.mark(2)
	c.scribble(5)
	c.Lose()
	report, err := c.Driver().Probe(t.Context(), c.target)
	c.must(err)
	if report.Broken == nil {
		t.Error("Probe says nothing of a loss")
	}
	_, err = c.Driver().Checkpoint(t.Context(), c.target, 3)
	c.broken(err, cbt.WhyAbsent)
	_, err = c.Driver().Checkpoint(t.Context(), c.target, 2)
	c.broken(err, cbt.WhyAbsent)
	_, _, err = c.Driver().Open(t.Context(), c.target, cbt.Session{Seq: 3, From: 2, Token: token})
	c.broken(err, cbt.WhyAbsent)
	_, err = c.changes(cbt.Span{From: 1, To: 2}, cbt.Cursor{})
	c.broken(err, cbt.WhyAbsent)
	// A new chain begins under a new number.
	c.target.Chain = nil
	c.must(c.Driver().Trim(t.Context(), c.target))
	c.mark(3)
	written := c.scribble(5)
	c.want(cbt.Span{From: 3}, written)
}

func dropped(t *testing.T, c *chain) {
	c.mark(1)
	c.scribble(5)
	c.open(cbt.Session{Seq: 2, From: 1, Token: token})
	c.must(c.Driver().Drop(t.Context(), c.target))
	c.must(c.Driver().Drop(t.Context(), c.target))
	_, err := c.changes(cbt.Span{From: 1}, cbt.Cursor{})
	c.broken(err, cbt.WhyAbsent)
	c.target.Chain = nil
	c.wantCheckpoints()
	swept, err := c.Driver().Sweep(t.Context(), c.target, func(string) bool { return false })
	c.must(err)
	if len(swept) > 0 {
		t.Errorf("the sweeper found %v after Drop", swept)
	}
}

func swept(t *testing.T, c *chain) {
	c.mark(1)
	written := c.scribble(5)
	live := c.target
	c.target.Task, c.target.Chain = "ffffffffffffffffffffffffffffffff", nil
	c.mark(1)
	dead := c.target
	found, err := c.Driver().Sweep(t.Context(), live, func(task string) bool { return task == "0123456789ab" })
	c.must(err)
	if diff := cmp.Diff([]string{"ffffffffffff"}, found); diff != "" {
		t.Errorf("swept (-want +got):\n%s", diff)
	}
	c.target = dead
	_, err = c.changes(cbt.Span{From: 1}, cbt.Cursor{})
	c.broken(err, cbt.WhyAbsent)
	c.target = live
	c.want(cbt.Span{From: 1}, written)
}

func canceled(t *testing.T, c *chain) {
	c.mark(1)
	written := c.scribble(10)
	if _, err := c.Driver().Checkpoint(endedContext(), c.target, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	if _, _, err := c.Driver().Open(endedContext(), c.target, cbt.Session{Seq: 2, From: 1, Token: token}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	more := c.scribble(10)
	c.mark(2)
	c.want(cbt.Span{From: 1, To: 2}, []blocks{written[0].add(more[0])})
}

func unknown(t *testing.T, c *chain) {
	c.mark(1)
	c.mark(2)
	for _, span := range []cbt.Span{{From: 7}, {From: 1, To: 7}} {
		_, err := c.changes(span, cbt.Cursor{})
		c.broken(err, cbt.WhyUnknown)
	}
	if _, err := c.changes(cbt.Span{From: 2, To: 1}, cbt.Cursor{}); !errors.Is(err, cbt.ErrUnsupported) {
		t.Errorf("got error %v for a span that goes back, want ErrUnsupported", err)
	}
}
