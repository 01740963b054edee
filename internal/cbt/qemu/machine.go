package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

// Shorthand for what QMP takes.
type (
	object = map[string]any
	list   = []any
)

// machine is a QEMU while one method works on it, under the machine's lock.
type machine struct {
	client *qmp.Client
	t      cbt.Target
	task   string // its part of names
	at     func(step string)

	// As of the last look:
	all   []node
	disks []*node // in the order of the target's
}

// node is what QEMU tells of a block node.
type node struct {
	Name     string `json:"node-name"`
	Driver   string `json:"drv"`
	ReadOnly bool   `json:"ro"`
	File     string `json:"file"`
	Image    struct {
		Size     uint64 `json:"virtual-size"`
		Specific struct {
			Data struct {
				Compat string `json:"compat"`
			} `json:"data"`
		} `json:"format-specific"`
	} `json:"image"`
	Bitmaps []bitmap `json:"dirty-bitmaps"`
}

type bitmap struct {
	Name         string `json:"name"`
	Recording    bool   `json:"recording"`
	Persistent   bool   `json:"persistent"`
	Inconsistent bool   `json:"inconsistent"`
	Count        uint64 `json:"count"` // bytes
}

// versionTwo is how QEMU names the qcow2 version that cannot hold bitmaps.
const versionTwo = "0.10"

func (n *node) persistent() bool {
	return n.Driver == cbt.FormatQcow2 && n.Image.Specific.Data.Compat != versionTwo
}

func (n *node) bitmap(name string) *bitmap {
	for i := range n.Bitmaps {
		if n.Bitmaps[i].Name == name {
			return &n.Bitmaps[i]
		}
	}
	return nil
}

// do runs a command. A lost connection is QEMU's end, or nearly; one that is silent for
// longer than any command takes is no better.
func (m *machine) do(ctx context.Context, command string, arguments, result any) error {
	err := m.client.Do(ctx, command, arguments, result)
	if errors.Is(err, qmp.ErrLost) || ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", cbt.ErrUnreachable, err)
	}
	return err
}

func (m *machine) transaction(ctx context.Context, actions list) error {
	if len(actions) == 0 {
		return nil
	}
	return m.do(ctx, "transaction", object{"actions": actions}, nil)
}

// look asks for the nodes and finds those of the disks: by the image's path, since
// their names are the machine's own, and in the configured format, since filters
// above a node bear its path too. The one that is written counts. A disk that is not
// open is nil.
func (m *machine) look(ctx context.Context) error {
	var all []node
	if err := m.do(ctx, "query-named-block-nodes", object{"flat": true}, &all); err != nil {
		return err
	}
	m.all, m.disks = all, make([]*node, len(m.t.Disks))
	for i, disk := range m.t.Disks {
		path := realPath(disk.Path)
		for k := range all {
			n := &all[k]
			if n.Driver != disk.Format || realPath(n.File) != path {
				continue
			}
			if m.disks[i] == nil || m.disks[i].ReadOnly {
				m.disks[i] = n
			}
		}
	}
	return nil
}

// present is ErrNoDisk if the machine lacks a disk.
func (m *machine) present() error {
	for i, disk := range m.t.Disks {
		if m.disks[i] == nil {
			return fmt.Errorf("%w: the machine does not have %s open as %s", cbt.ErrNoDisk, disk.Path, disk.Format)
		}
	}
	return nil
}

func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// checkpoints that a disk has of this task, rising.
func (m *machine) checkpoints(n *node) []int {
	var found []int
	for _, b := range n.Bitmaps {
		if task, seq, ok := cbt.ParseCheckpoint(b.Name); ok && task == m.task {
			found = append(found, seq)
		}
	}
	slices.Sort(found)
	return found
}

// name of a checkpoint's bitmap.
func (m *machine) name(seq int) string { return cbt.CheckpointName(m.t.Task, seq) }

// part names an object of a checkpoint that belongs to one disk: kind is a letter.
func (m *machine) part(seq int, kind string, disk int) string {
	return m.name(seq) + kind + strconv.Itoa(disk)
}

func on(n *node, name string) object { return object{"node": n.Name, "name": name} }

func action(kind string, data object) object { return object{"type": kind, "data": data} }

func addBitmap(n *node, name string, granularity uint64) object {
	data := on(n, name)
	data["granularity"], data["persistent"] = granularity, true
	return action("block-dirty-bitmap-add", data)
}

// addView adds a bitmap for reading: it neither records nor lasts.
func addView(n *node, name string, granularity uint64) object {
	data := on(n, name)
	data["granularity"], data["disabled"] = granularity, true
	return action("block-dirty-bitmap-add", data)
}

func merge(n *node, into string, from []string) object {
	return action("block-dirty-bitmap-merge", object{"node": n.Name, "target": into, "bitmaps": from})
}

func disable(n *node, name string) object { return action("block-dirty-bitmap-disable", on(n, name)) }
func enable(n *node, name string) object  { return action("block-dirty-bitmap-enable", on(n, name)) }

// removeBitmap is success when the bitmap is not there afterwards, whatever QEMU says.
func (m *machine) removeBitmap(ctx context.Context, n *node, name string) error {
	refused := m.do(ctx, "block-dirty-bitmap-remove", on(n, name), nil)
	if refused == nil {
		return nil
	}
	var all []node
	if err := m.do(ctx, "query-named-block-nodes", object{"flat": true}, &all); err != nil {
		return err
	}
	for i := range all {
		if all[i].Name == n.Name && all[i].bitmap(name) != nil {
			return fmt.Errorf("remove bitmap %s: %w", name, refused)
		}
	}
	return nil
}
