// Package cbt is the model of changed block tracking: what the blocks of a
// machine's disks were written between two moments, so that a backup reads those
// and no others.
//
//	checkpoint   1            2                 4                now
//	             │◀─ interval 1 ─▶│◀── interval 2 ──▶│◀─ interval 4 ─▶│
//	             └─ bitmap 1 ────▶└─ bitmap 2 ──────▶└─ bitmap 4, records
//
// A checkpoint is a moment, the same for all disks of a machine. From it on a
// bitmap (or, for the scan driver, a manifest of digests) records what is
// written, until the next checkpoint begins. What was written between two
// checkpoints is the union of the intervals between them. The record of which
// checkpoints exist is the caller's: Target.Chain. A driver makes the objects on
// the host agree with it, and tells when they do not.
//
// Three rules keep a lost block from going unnoticed:
//
//   - A checkpoint in the chain that is missing on the host is ChainBroken. It is
//     never made anew under its old number: an empty bitmap would say that nothing
//     was written.
//   - A checkpoint on the host that is not in the chain was begun by somebody who
//     died before it was recorded. Nobody relies on it: its interval is joined to
//     the one before it.
//   - Numbers only rise. A driver that meets a higher number than it is asked for
//     is being called by a stale worker, and refuses.
//
// A Session is a moment that can be read: Open makes a checkpoint and exports the
// disks as they were then over NBD, while the machine goes on writing.
//
// Package qemu implements Driver with dirty bitmaps of a running QEMU, package
// scan with digests of images that nobody writes. Package cbttest holds both to
// the contract.
package cbt

import "context"

// A Driver tracks changed blocks of one kind of machine. All methods may be
// called again after any failure, and by another process: what was done already
// is found and kept.
//
// Besides what is said at each method, all return ErrBusy and ErrUnreachable,
// which a later call may not see, and ctx's error when that ends; the chain is
// whole then.
type Driver interface {
	// Name is "qemu" or "scan".
	Name() string

	// Probe looks and changes nothing. A broken chain is in the report, not an
	// error. ErrNoDisk: a disk is not there.
	Probe(ctx context.Context, t Target) (Report, error)

	// Checkpoint makes checkpoint seq of all disks in one moment and ends the
	// interval of the one before. If it exists already, it is returned.
	// *ChainBroken: the chain is not whole, nothing was changed. ErrStale: there is a
	// higher one. ErrNotPersistent, ErrInUse, ErrNoSpace: it cannot be had here.
	Checkpoint(ctx context.Context, t Target, seq int) (Point, error)

	// Changes calls each with what was written in the span, disk by disk in the
	// order of t.Disks and by rising offset, without overlap, starting at the
	// cursor. An error of each ends the walk and is returned.
	// *ChainBroken: a checkpoint of the span is lost.
	Changes(ctx context.Context, t Target, span Span, from Cursor, each func(disk int, e Extent) error) error

	// Open makes checkpoint s.Seq and exports the disks as of that moment. Called
	// again for a session that lives, it returns the same. ErrSessionGone: s.Seq is
	// in the chain, so somebody was given it, and its moment cannot be read any
	// more. Otherwise as Checkpoint.
	Open(ctx context.Context, t Target, s Session) (Point, []Export, error)

	// Close ends a session and removes what it needed; the checkpoint stays. A
	// session that is gone already is success. ErrInUse: a reader is connected and
	// s.Force is not set.
	Close(ctx context.Context, t Target, s Session) error

	// Trim removes from the host the checkpoints of the task that are not in t.Chain
	// and joins their intervals to the ones before. To forget a checkpoint, or to
	// undo one, take it out of the chain and trim. No step of the task may be in
	// flight: its unrecorded checkpoint would be undone.
	Trim(ctx context.Context, t Target) error

	// Drop removes all that belongs to the task, sessions too, and nothing else.
	Drop(ctx context.Context, t Target) error

	// Sweep removes what belongs to tasks for which live is false: bitmaps, exports,
	// jobs, nodes and files. t.Task is not looked at. It returns the names of the
	// tasks (see Names) whose objects it removed.
	Sweep(ctx context.Context, t Target, live func(task string) bool) ([]string, error)
}

// A Span says between which checkpoints changes are asked for. From 0 asks for
// what is allocated now, and To is 0 then. To 0 is now.
type Span struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// A Cursor says where a walk over the disks of a target starts: the index of the
// disk and the first byte of interest. What lies across it is cut.
type Cursor struct {
	Disk   int
	Offset uint64
}

// Cut gives the part of an extent that is at or behind the cursor.
func (c Cursor) Cut(disk int, e Extent) (Extent, bool) {
	if disk != c.Disk {
		return e, disk > c.Disk
	}
	if e.Offset+e.Length <= c.Offset {
		return e, false
	}
	if e.Offset < c.Offset {
		e.Length -= c.Offset - e.Offset
		e.Offset = c.Offset
	}
	return e, true
}

// Start is where the walk of one disk begins.
func (c Cursor) Start(disk int) uint64 {
	if disk == c.Disk {
		return c.Offset
	}
	return 0
}
