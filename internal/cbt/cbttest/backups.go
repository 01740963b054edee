package cbttest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/backup"
)

// backedUp copies what a session shows and what changes tell, and restores each moment.
func backedUp(t *testing.T, c *chain) {
	set := backup.Of(Dir(t), "machine", c.target.Task)
	var all []cbt.Backup
	moments := map[int][][]byte{}
	for seq := 1; seq <= 3; seq++ {
		c.scribble(12)
		s := cbt.Session{Seq: seq, From: seq - 1, Token: token}
		for d := range c.target.Disks {
			moments[seq] = append(moments[seq], c.Image(d))
		}
		exports := c.open(s)
		span := cbt.Span{}
		if s.From > 0 {
			span = cbt.Span{From: s.From, To: s.Seq}
		}
		extents, err := c.changes(span, cbt.Cursor{})
		c.must(err)
		if c.Freezes() {
			c.scribble(5)
		}
		copied := backup.Copy{Seq: seq, Base: s.From}
		for d, e := range exports {
			copied.Disks = append(copied.Disks, backup.Disk{
				Volume: e.Volume, Size: e.Size, Extents: extents[d], Based: s.From > 0,
				Open: func(context.Context) (backup.Reader, error) { return c.dial(e), nil },
			})
		}
		files, err := set.Write(t.Context(), copied)
		c.must(err)
		b := cbt.Backup{Seq: seq, Base: s.From, Files: files}
		c.must(set.Seal(backup.Sheet{Backup: b}))
		c.must(c.Driver().Close(t.Context(), c.target, s))
		all = append(all, b)
	}
	for seq, images := range moments {
		for d, want := range images {
			c.wantRestored(set, all, seq, d, want)
		}
	}
}

// wantRestored checks that a disk of a backup restores to what it was.
func (c *chain) wantRestored(set backup.Set, all []cbt.Backup, seq, disk int, want []byte) {
	c.t.Helper()
	chain, err := backup.Chain(slices.Clone(all), seq)
	c.must(err)
	path := filepath.Join(Dir(c.t), "raw")
	f, err := os.Create(path)
	c.must(err)
	defer func() { _ = f.Close() }() // it was flushed
	c.must(f.Truncate(int64(len(want))))
	r := backup.Restore{Chain: chain, Volume: c.target.Disks[disk].Volume}
	c.must(set.Restore(c.t.Context(), r, backup.NewFile(f)))
	got, err := os.ReadFile(path)
	c.must(err)
	if !bytes.Equal(got, want) {
		c.t.Errorf("disk %d of backup %d is not restored as it was", disk, seq)
	}
}
