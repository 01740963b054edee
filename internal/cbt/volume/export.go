package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

type object = map[string]any

// ids are those of all exports. Those that are being closed count.
func (d *daemon) ids(ctx context.Context) ([]string, error) {
	var all []struct {
		ID string `json:"id"`
	}
	if err := d.do(ctx, "query-block-exports", nil, &all); err != nil {
		return nil, err
	}
	var out []string
	for _, e := range all {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return out, nil
}

// exports are those of some disks, in their order.
func (d *daemon) exports(ctx context.Context, disks []cbt.Disk) ([]cbt.Export, error) {
	ids, err := d.ids(ctx)
	if err != nil {
		return nil, err
	}
	sizes, err := d.sizes(ctx)
	if err != nil {
		return nil, err
	}
	var out []cbt.Export
	network, address := where(d.t)
	for _, disk := range disks {
		i := slices.IndexFunc(ids, func(id string) bool { return ofVolume(id, disk.Volume) })
		if i < 0 {
			continue
		}
		out = append(out, cbt.Export{
			Volume: disk.Volume, Size: sizes[nodeName(disk.Volume)], Network: network, Address: address, Name: ids[i], Mode: cbt.ModeFull,
		})
	}
	return out, nil
}

func (d *daemon) sizes(ctx context.Context) (map[string]uint64, error) {
	var nodes []struct {
		Name  string `json:"node-name"`
		Image struct {
			Size uint64 `json:"virtual-size"`
		} `json:"image"`
	}
	if err := d.do(ctx, "query-named-block-nodes", object{"flat": true}, &nodes); err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, n := range nodes {
		out[n.Name] = n.Image.Size
	}
	return out, nil
}

// clear ends what is exported of the disks under another token. ErrInUse unless
// forced.
func (d *daemon) clear(ctx context.Context, disks []cbt.Disk, ask Ask) error {
	ids, err := d.ids(ctx)
	if err != nil {
		return err
	}
	var others []cbt.Disk
	for _, disk := range disks {
		other := func(id string) bool { return ofVolume(id, disk.Volume) && id != exportID(disk.Volume, ask.Token) }
		if slices.ContainsFunc(ids, other) {
			others = append(others, disk)
		}
	}
	if len(others) > 0 && !ask.Force {
		return fmt.Errorf("%w: volume %s is exported already", cbt.ErrInUse, others[0].Volume)
	}
	return d.drop(ctx, others, true)
}

// add opens an image and exports it.
func (d *daemon) add(ctx context.Context, disk cbt.Disk, id string) error {
	node := nodeName(disk.Volume)
	nodes, err := d.sizes(ctx)
	if err != nil {
		return err
	}
	if _, left := nodes[node]; left { // by a call that died here
		if err := d.closeImage(ctx, disk); err != nil {
			return err
		}
	}
	file := object{"driver": "file", "filename": disk.Path}
	if isDevice(disk.Path) {
		file["driver"] = "host_device"
	}
	open := object{"driver": disk.Format, "node-name": node, "file": file, "discard": "unmap"}
	if err := d.do(ctx, "blockdev-add", open, nil); err != nil {
		return fmt.Errorf("open volume %s: %w", disk.Volume, err)
	}
	export := object{"type": "nbd", "id": id, "node-name": node, "name": id, "writable": true}
	if err := d.do(ctx, "block-export-add", export, nil); err != nil {
		return fmt.Errorf("export volume %s: %w", disk.Volume, err)
	}
	return nil
}

// drop ends the exports of disks and closes their images, which writes out what they
// hold. What is not there is success; what has a client stays unless forced.
func (d *daemon) drop(ctx context.Context, disks []cbt.Disk, force bool) error {
	var errs []error
	for _, disk := range disks {
		err := d.endExports(ctx, disk, force)
		if err == nil {
			err = d.closeImage(ctx, disk)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// undo ends what an Export that fails has made, and the daemon if that was all it had. A
// daemon that hangs keeps its caller no longer than undoWait.
func (d *daemon) undo(ctx context.Context, made []cbt.Disk) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
	defer cancel()
	return errors.Join(d.drop(ctx, made, true), d.endIfIdle(ctx))
}

// endExports gives clients that hung up a moment ago, and the daemon, the time that
// they need to be gone.
func (d *daemon) endExports(ctx context.Context, disk cbt.Disk, force bool) error {
	mode, wait := "safe", cbt.LeaveWait
	if force {
		mode, wait = "hard", endWait
	}
	for end := time.Now().Add(wait); ; {
		left, err := d.left(ctx, disk)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: a client is connected to volume %s", cbt.ErrInUse, disk.Volume)
		}
		for _, id := range left {
			_ = d.do(ctx, "block-export-del", object{"id": id, "mode": mode}, nil) // the next look tells
		}
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// left are the exports of a disk.
func (d *daemon) left(ctx context.Context, disk cbt.Disk) ([]string, error) {
	ids, err := d.ids(ctx)
	return slices.DeleteFunc(ids, func(id string) bool { return !ofVolume(id, disk.Volume) }), err
}

// isDevice says whether a path is a block device; what cannot be looked at is not.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeDevice != 0
}

func (d *daemon) closeImage(ctx context.Context, disk cbt.Disk) error {
	refused := d.do(ctx, "blockdev-del", object{"node-name": nodeName(disk.Volume)}, nil)
	if refused == nil {
		return nil
	}
	nodes, err := d.sizes(ctx)
	if err != nil {
		return err
	}
	if _, there := nodes[nodeName(disk.Volume)]; there {
		return fmt.Errorf("close volume %s: %w", disk.Volume, refused)
	}
	return nil
}
