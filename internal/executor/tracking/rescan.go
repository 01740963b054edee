package tracking

import (
	"context"
	"fmt"
	"sync"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/scan"
)

// With onBroken rescan, the moment of each session is digested while it is open: all of
// it the first time, then what changed. When the chain of bitmaps breaks after that,
// the next session's moment is digested whole and compared, and what differs is what
// was written:
//
//	checkpoint   3                          4
//	             │ digests                  │ digests
//	bitmaps      │◀── lost with QEMU ──▶│   │◀─ 4 …
//	             └──────── compare ─────────┘
//
// The record says so in Rescan, and keeps checkpoint 3 in its chain although the driver
// has lost it. The scan driver keeps digests of its own, so nothing of this is for it.

// bridged is a chain as the driver has it: without the checkpoint that a rescan stands
// for.
func bridged(r cbt.Record) cbt.Chain {
	if r.Rescan == nil {
		return r.Chain
	}
	return r.Chain.Without(r.Rescan.From)
}

// digest keeps the digests of the moment of a session that was opened. Those of the
// checkpoint before are kept too, for an attempt that follows this one.
func (w *work) digest(ctx context.Context, t cbt.Target, s cbt.Session, exports []cbt.Export) error {
	kept := w.digests()
	key, err := kept.key()
	if err != nil {
		return err
	}
	for i, e := range exports {
		old := kept.manifest(s.From, i, e.Volume)
		if old == nil {
			e.Context = "" // all of it
		}
		now, err := w.take(ctx, t, e, key)
		if err != nil {
			return fmt.Errorf("digest volume %s: %w", e.Volume, err)
		}
		if old != nil {
			now = overlaid(old, now.Manifest, now.data, t.Block())
		}
		if err := kept.saveManifest(s.Seq, i, e.Volume, now.Manifest); err != nil {
			return err
		}
	}
	return nil
}

// taken is a manifest and the stretches that were read for it.
type taken struct {
	*scan.Manifest
	data []cbt.Extent
}

func (w *work) take(ctx context.Context, t cbt.Target, e cbt.Export, key scan.Key) (taken, error) {
	source, release, err := openMoment(ctx, t.Listen, e)
	if err != nil {
		return taken{}, err
	}
	defer release()
	var mu sync.Mutex // guards done, and lets one goroutine tell
	done, total, tell := uint64(0), cbt.Bytes(source.data), progress(w.log, w.tell)
	m, err := scan.Take(ctx, source, key, t.Block(), readers, func(read uint64) {
		mu.Lock()
		defer mu.Unlock()
		done += read
		tell(min(done, total), total)
	})
	return taken{m, source.data}, err
}

// overlaid is what was before, with what was read now.
func overlaid(before, now *scan.Manifest, read []cbt.Extent, block uint64) taken {
	fresh := make([]bool, len(now.Digests))
	for _, e := range read {
		for k := e.Offset / block; k < (e.End()+block-1)/block; k++ {
			fresh[k] = true
		}
	}
	for k := range now.Digests {
		if !fresh[k] && k < len(before.Digests) {
			now.Digests[k] = before.Digests[k]
		}
	}
	return taken{now, read}
}

// comparable says whether a rescan can tell what was written since a checkpoint.
func (w *work) comparable(from int) bool {
	if w.o.OnBroken != cbt.OnBrokenRescan || from == 0 || w.matches() != nil || len(w.record.Volumes) == 0 {
		return false
	}
	kept := w.digests()
	for i, v := range w.record.Volumes {
		m := kept.manifest(from, i, v.UUID)
		if m == nil || m.Block != w.target().Block() {
			return false
		}
	}
	return true
}

// compare makes of a full session an incremental one since a checkpoint that the driver
// has lost. point is that checkpoint, as it was recorded.
func (w *work) compare(s cbt.Session, point cbt.Point) (cbt.Details, error) {
	kept := w.digests()
	details := cbt.Details{}
	exports := w.record.Open.Exports
	for i := range exports {
		e := &exports[i]
		before, now := kept.manifest(s.From, i, e.Volume), kept.manifest(s.Seq, i, e.Volume)
		if before == nil || now == nil {
			return nil, fmt.Errorf("compare volume %s: its digests are gone", e.Volume)
		}
		extents := scan.Compare(before, now)
		if err := kept.saveChanged(s.Seq, i, head{e.Volume, now.Block, now.Size}, extents); err != nil {
			return nil, err
		}
		v, err := detailOf(e.Volume, extents)
		if err != nil {
			return nil, err
		}
		details = append(details, v)
		e.Mode = cbt.ModeIncremental
		w.say("volume %s: %d bytes differ from checkpoint %d", e.Volume, v.Changed, s.From)
	}
	w.record.Chain = append(cbt.Chain{point}, w.record.Chain...)
	w.record.Open.From = s.From
	w.record.Rescan = &cbt.Rescan{From: s.From, To: s.Seq}
	w.record.Broken += fmt.Sprintf("; what was written since checkpoint %d was found by comparing digests", s.From)
	return details, nil
}

func detailOf(volume string, extents []cbt.Extent) (v cbt.VolumeDetail, err error) {
	v.Volume = volume
	b := newBitmap()
	for _, e := range extents {
		v.Changed += e.Length
		if err := b.add(e); err != nil {
			return v, err
		}
	}
	v.Bitmap, err = b.text()
	return v, err
}

// across reads a span that begins where a rescan does: what that found, and what the
// driver has since.
func (w *work) across(ctx context.Context, d cbt.Driver, t cbt.Target, q cbt.PageOrder, disk int, each func(cbt.Extent) error) error {
	r := w.record.Rescan
	extents, err := w.digests().changed(r.To, disk, q.Volume)
	if err != nil {
		return err
	}
	if q.Span.To != r.To {
		var since []cbt.Extent
		span := cbt.Span{From: r.To, To: q.Span.To}
		err := changesOf(ctx, d, t, span, cbt.Cursor{Disk: disk}, func(e cbt.Extent) error {
			since = append(since, e)
			return nil
		})
		if err != nil {
			return err
		}
		extents = cbt.Union(extents, since)
	}
	for _, e := range extents {
		part, ok := cbt.Cursor{Disk: disk, Offset: q.Offset}.Cut(disk, e)
		if !ok {
			continue
		}
		if err := each(part); err != nil {
			return err
		}
	}
	return nil
}
