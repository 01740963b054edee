package cbt

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// An Op is what a worker is asked to do with one machine of a task.
type Op string

// Ops. Each may be asked for again after any failure.
const (
	OpOpen     Op = "open"     // begin a checkpoint and export the moment; Driver.Open
	OpClose    Op = "close"    // end the session; Driver.Close
	OpDrop     Op = "drop"     // remove all that is the task's; Driver.Drop
	OpForget   Op = "forget"   // take checkpoint Seq out of the chain; Driver.Trim
	OpProbe    Op = "probe"    // look, and change nothing; Driver.Probe
	OpChanges  Op = "changes"  // read a page of changes; Driver.Changes
	OpExport   Op = "export"   // serve Volumes of a stopped machine for a restore
	OpUnexport Op = "unexport" // end that
	OpBackup   Op = "backup"   // copy a moment into files of the worker's host, in a session of its own
	OpRestore  Op = "restore"  // write a backup to a stopped machine's volumes, or to new files
	OpVerify   Op = "verify"   // read a backup, with all that it is based on, and compare with the digests
	OpDiscard  Op = "discard"  // delete a backup
)

// Drivers, and what to do with a broken chain.
const (
	DriverAuto = "auto"
	DriverQEMU = "qemu"
	DriverScan = "scan"

	OnBrokenFull   = "full"   // begin a new chain, the next copy is whole
	OnBrokenRescan = "rescan" // compare the disks with the digests of the last session, where there are any; else full
	OnBrokenFail   = "fail"
)

// An Order is what an attempt of a CBT step is given, as JSON: all that is to be done
// for one machine. It is made by the engine from the task's record, and does not change
// while one transition of a task is under way.
type Order struct {
	Op       Op     `json:"op"`
	Task     string `json:"task"`
	Machine  string `json:"machine"`
	Driver   string `json:"driver"`             // as the task has it: auto, qemu or scan
	OnBroken string `json:"onBroken,omitempty"` // full, rescan or fail
	Record   Record `json:"record"`             // of the machine, as it is

	Session Session   `json:"session,omitzero"` // open, backup
	Force   bool      `json:"force,omitempty"`  // close, drop, unexport, export
	Seq     int       `json:"seq,omitempty"`    // forget; of the backup: restore, verify, discard
	Changes PageOrder `json:"changes,omitzero"` // changes
	// Volumes that are meant: export, unexport; restore, where none is all of the backup.
	Volumes []string `json:"volumes,omitempty"`
	// Into is a directory below the worker's roots that a restore makes new raw files in,
	// "<volume>.raw"; empty: it writes to the volumes themselves.
	Into string `json:"into,omitempty"`
	// Rate bounds what a backup or a restore copies, in bytes a second; 0: no bound.
	Rate uint64 `json:"rate,omitempty"`
	// Backups has drop delete the files of backups too.
	Backups bool   `json:"backups,omitempty"`
	Token   string `json:"token,omitempty"` // export: makes names hard to guess
	// Check: the session is expected to live. The engine takes an Estimate that says
	// otherwise for a failure.
	Check bool `json:"check,omitempty"` // probe
}

// A PageOrder asks for changes of one volume in rising order, from an offset on.
type PageOrder struct {
	Volume string `json:"volume"`
	Span   Span   `json:"span"`
	Offset uint64 `json:"offset"`
	Most   int    `json:"most"` // extents of the page, at most MaxPage
}

// MaxPage bounds the extents of a page.
const MaxPage = 1000

// A Record is what is kept of a machine of a task between orders. The answer to each
// order that changes something holds the new one whole.
type Record struct {
	// Driver made the chain: qemu or scan; empty before the first.
	Driver string `json:"driver,omitempty"`
	Block  uint64 `json:"block,omitempty"` // the chain's granularity in bytes
	Chain  Chain  `json:"chain,omitempty"`
	// Open is the moment that is exported, nil if there is none.
	Open    *OpenSession `json:"open,omitempty"`
	Volumes []Volume     `json:"volumes,omitempty"` // as of the last order
	// Broken says when and why a chain was begun anew last.
	Broken   string    `json:"broken,omitempty"`
	BrokenAt time.Time `json:"brokenAt,omitzero"`
	// Rescan says which interval was found by comparing digests, nil if none was.
	Rescan *Rescan `json:"rescan,omitempty"`
	// Restore are the volumes that are exported for a restore.
	Restore []Export `json:"restore,omitempty"`
	// Backups that the worker keeps, oldest first, at most MaxBackups.
	Backups []Backup `json:"backups,omitempty"`
}

// MaxBackups bounds the backups that are kept of a machine.
const MaxBackups = 200

// A Backup is a copy of a machine's disks as of a checkpoint, in files on the worker's
// host. They are qcow2 images, one a disk, of which those of an incremental backup have
// the older ones as backing files: other tools read them too.
type Backup struct {
	Seq int `json:"seq"` // of the checkpoint
	// Base is the backup that this one holds the changes since; 0: it is full.
	Base  int          `json:"base,omitempty"`
	At    time.Time    `json:"at"` // the moment, by the host's clock
	Fuzzy bool         `json:"fuzzy,omitempty"`
	Dir   string       `json:"dir"`
	Files []BackupFile `json:"files"`
}

// A BackupFile is one disk of a backup.
type BackupFile struct {
	Volume string `json:"volume"`
	Name   string `json:"name"`  // in Dir
	Size   uint64 `json:"size"`  // of the disk, in bytes
	Bytes  uint64 `json:"bytes"` // that were copied
	Sum    string `json:"sum"`   // BLAKE3 of the file, 64 hexadecimal digits
}

// A Rescan bridges a chain that broke: what was written between two neighbors of the
// chain is known from comparing digests. The driver has lost From, and has To.
type Rescan struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// An OpenSession is a session with what it exports.
type OpenSession struct {
	Session
	At      time.Time `json:"at"`
	Fuzzy   bool      `json:"fuzzy,omitempty"`
	Exports []Export  `json:"exports"`
}

// A Volume is a disk of a machine as the worker's configuration has it.
type Volume struct {
	UUID   string `json:"uuid"`
	Path   string `json:"path"`
	Format string `json:"format"`
	Size   uint64 `json:"size"`
}

// An Answer is the output of an attempt that succeeded, and of one that failed having
// changed something: two lines of JSON, the record and the detail, so that whoever
// keeps the record need not read the other.
type Answer struct {
	Record Record
	Detail any // Details of open, Estimate of probe, Page of changes; nil else
}

// Encode gives the two lines.
func (a Answer) Encode() (string, error) {
	record, err := json.Marshal(a.Record)
	if err != nil {
		return "", fmt.Errorf("encode record: %w", err)
	}
	detail, err := json.Marshal(a.Detail)
	if err != nil {
		return "", fmt.Errorf("encode detail: %w", err)
	}
	return string(record) + "\n" + string(detail), nil
}

// ReadAnswer takes apart what Encode wrote; the detail is left as JSON.
func ReadAnswer(output string) (record Record, detail json.RawMessage, err error) {
	first, second, ok := strings.Cut(output, "\n")
	if !ok || !strings.HasPrefix(first, "{") || !json.Valid([]byte(second)) {
		return Record{}, nil, fmt.Errorf("read answer: it is not two lines of JSON")
	}
	if err := json.Unmarshal([]byte(first), &record); err != nil {
		return Record{}, nil, fmt.Errorf("read record: %w", err)
	}
	return record, json.RawMessage(second), nil
}

// Details tell what changed on each disk of a session, in the order of its exports.
type Details []VolumeDetail

// A VolumeDetail is for products that read bitmaps from the answer, as ZStack gives
// them: base64 of zlib of a JSON object of start to length in bytes. It is empty when
// longer than MaxBitmap.
type VolumeDetail struct {
	Volume  string `json:"volume"`
	Changed uint64 `json:"changed"` // bytes to read: changed since Session.From, or allocated
	Bitmap  string `json:"bitmap,omitempty"`
}

// MaxBitmap bounds VolumeDetail.Bitmap in bytes.
const MaxBitmap = 256 << 10

// A Page of extents of one volume.
type Page struct {
	Volume  string       `json:"volume"`
	Size    uint64       `json:"size"`  // of the volume in bytes
	Block   uint64       `json:"block"` // granularity in bytes
	Extents []PageExtent `json:"extents"`
	// Next is where to go on reading; 0 when there is nothing more.
	Next uint64 `json:"next,omitempty"`
}

// A PageExtent is an Extent with JSON names.
type PageExtent struct {
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
	Zero   bool   `json:"zero,omitempty"`
}

// An Estimate is what a probe found.
type Estimate struct {
	Running bool             `json:"running"` // the machine's process answers
	InUse   bool             `json:"inUse"`
	Session bool             `json:"session"`          // the session lives
	Gone    string           `json:"gone,omitempty"`   // why it does not, if asked by Check and not for Broken
	Broken  string           `json:"broken,omitempty"` // why the chain cannot be continued
	Volumes []VolumeEstimate `json:"volumes"`
}

// A VolumeEstimate says how much was written since the last checkpoint.
type VolumeEstimate struct {
	Volume  string `json:"volume"`
	Size    uint64 `json:"size"`
	Changed uint64 `json:"changed"`
	Known   bool   `json:"known"` // false: it was not counted
}
