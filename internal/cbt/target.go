package cbt

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultGranularity is the size of a block in bytes where a target names none.
const DefaultGranularity = 64 << 10

// A Target is a machine as a worker's configuration and the task's record
// describe it.
type Target struct {
	// Task is the uuid of the CBT task: hexadecimal, at least 12 digits.
	Task string
	// QMP is the unix socket of a monitor that is ours alone; empty if there is none.
	QMP string
	// Dir is a directory on the machine's host that belongs to this machine: sockets,
	// scratch images, manifests and the lock. Its path is short: a socket's name in
	// it has to fit in 107 bytes.
	Dir string
	// Disks of the machine, in the order that results use.
	Disks []Disk
	// Listen says where the machine's exports are served.
	Listen Listen
	// Granularity is the size of a block in bytes, a power of two; 0 is
	// DefaultGranularity. It is the same for the whole life of a chain.
	Granularity uint64
	// Chain is the record of the checkpoints that exist, oldest first.
	Chain Chain
	// AllowFuzzy lets the scan driver read a raw image while it is written. Each
	// block is then as of when it was read; the point says so.
	AllowFuzzy bool
	// Progress, if set, is told the bytes done and to do of long work, from one
	// goroutine at a time.
	Progress func(done, total uint64)
}

// Block is the granularity in bytes.
func (t Target) Block() uint64 {
	if t.Granularity == 0 {
		return DefaultGranularity
	}
	return t.Granularity
}

// A Disk is one image of a machine.
type Disk struct {
	Volume string // uuid
	Path   string // of the image or the block device, absolute
	Format string // FormatRaw or FormatQcow2: from the configuration, never guessed from the data
}

// Formats of images.
const (
	FormatRaw   = "raw"
	FormatQcow2 = "qcow2"
)

// Check tells what is wrong with a target, in words for whoever wrote it.
func (t Target) Check() error {
	if _, err := TaskName(t.Task); err != nil {
		return err
	}
	if g := t.Block(); g < 512 || g&(g-1) != 0 || g > 64<<20 {
		return fmt.Errorf("granularity %d is not a power of two between 512 and 64 MiB", g)
	}
	if !filepath.IsAbs(t.Dir) {
		return fmt.Errorf("the directory %q of the machine is not absolute", t.Dir)
	}
	if len(t.Disks) == 0 {
		return fmt.Errorf("the machine has no disks")
	}
	for _, d := range t.Disks {
		if d.Format != FormatRaw && d.Format != FormatQcow2 {
			return fmt.Errorf("format %q of volume %s is neither raw nor qcow2", d.Format, d.Volume)
		}
		if !filepath.IsAbs(d.Path) {
			return fmt.Errorf("path %q of volume %s is not absolute", d.Path, d.Volume)
		}
	}
	return errors.Join(t.Listen.check(), t.Chain.check())
}

// A Point is a checkpoint as the driver made it; the caller keeps it in the chain.
type Point struct {
	Seq int       `json:"seq"`
	At  time.Time `json:"at"` // by the host's clock when it was made or found, for people
	// Fuzzy: a disk was written while it was read, so this is not one moment.
	Fuzzy bool `json:"fuzzy,omitempty"`
	// Changed is how many bytes the interval that ended here holds, all disks
	// together, in whole blocks; 0 for the first.
	Changed uint64 `json:"changed"`
	// Sizes of the disks in bytes then, in their order.
	Sizes []uint64 `json:"sizes"`
}

// A Chain is the record of a task's checkpoints, oldest first.
type Chain []Point

func (c Chain) check() error {
	for i, p := range c {
		if p.Seq < 1 || i > 0 && p.Seq <= c[i-1].Seq {
			return fmt.Errorf("the numbers of the chain do not rise from 1: %d", p.Seq)
		}
	}
	return nil
}

// Has says whether a checkpoint is recorded.
func (c Chain) Has(seq int) bool { return c.index(seq) >= 0 }

func (c Chain) index(seq int) int {
	return slices.IndexFunc(c, func(p Point) bool { return p.Seq == seq })
}

// Last is the number of the youngest checkpoint, 0 if there is none.
func (c Chain) Last() int {
	if len(c) == 0 {
		return 0
	}
	return c[len(c)-1].Seq
}

// Before is the youngest checkpoint older than seq, 0 if there is none.
func (c Chain) Before(seq int) int {
	found := 0
	for _, p := range c {
		if p.Seq < seq {
			found = p.Seq
		}
	}
	return found
}

// Without is the chain as it is when a checkpoint has been forgotten.
func (c Chain) Without(seq int) Chain {
	return slices.DeleteFunc(slices.Clone(c), func(p Point) bool { return p.Seq == seq })
}

// Points are the checkpoints whose intervals make up a span. An end that is not
// recorded is a *ChainBroken with WhyUnknown.
func (c Chain) Points(s Span) (Chain, error) {
	from, to := c.index(s.From), len(c)
	if from < 0 {
		return nil, &ChainBroken{Seq: s.From, Why: WhyUnknown}
	}
	if s.To != 0 {
		if to = c.index(s.To); to < 0 {
			return nil, &ChainBroken{Seq: s.To, Why: WhyUnknown}
		}
	}
	if to < from {
		return nil, fmt.Errorf("%w: a span from checkpoint %d back to %d", ErrUnsupported, s.From, s.To)
	}
	return c[from:to], nil
}

// taskDigits of a task's uuid go into names: QEMU allows 31 characters.
const taskDigits = 12

// Prefix begins the names of all objects that are ours.
const Prefix = "cbt-"

// TaskName is the part of a task's uuid that names its objects on a host.
func TaskName(task string) (string, error) {
	task = strings.ToLower(strings.ReplaceAll(task, "-", ""))
	if len(task) < taskDigits || strings.Trim(task, "0123456789abcdef") != "" {
		return "", fmt.Errorf("task %q is not a uuid", task)
	}
	return task[:taskDigits], nil
}

// CheckpointName names a checkpoint to the outside: "cbt-<task name>-<seq>".
func CheckpointName(task string, seq int) string {
	name, err := TaskName(task)
	if err != nil {
		return ""
	}
	return Prefix + name + "-" + strconv.Itoa(seq)
}

// ParseName takes apart the name of an object of ours: the task's name and what
// follows it, which is a number for a checkpoint.
func ParseName(name string) (task, rest string, ok bool) {
	name, ok = strings.CutPrefix(name, Prefix)
	if !ok {
		return "", "", false
	}
	task, rest, ok = strings.Cut(name, "-")
	if !ok || len(task) != taskDigits || strings.Trim(task, "0123456789abcdef") != "" || rest == "" {
		return "", "", false
	}
	return task, rest, true
}

// ParseCheckpoint gives the number of a checkpoint that CheckpointName named.
func ParseCheckpoint(name string) (task string, seq int, ok bool) {
	task, rest, ok := ParseName(name)
	if !ok {
		return "", 0, false
	}
	seq, err := strconv.Atoi(rest)
	return task, seq, err == nil && seq > 0
}
