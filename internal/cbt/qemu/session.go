package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/takt-dev/takt/internal/cbt"
)

// Names of files in the machine's directory end so.
const (
	scratchSuffix = ".scratch"
	noteSuffix    = ".why" // see Relieve
)

// scratchReserve is the least part of a disk's size that has to be free for its
// scratch image, beside what is spared. The image has to have room for all that is
// overwritten while the session lasts; see Room for when it has not.
const scratchReserve = 10 // a tenth

// Open freezes a moment and exports it; see cbt.Driver.
func (d *Driver) Open(ctx context.Context, t cbt.Target, s cbt.Session) (cbt.Point, []cbt.Export, error) {
	if err := s.Check(); err != nil {
		return cbt.Point{}, nil, err
	}
	m, release, err := d.contact(ctx, t)
	if err != nil {
		return cbt.Point{}, nil, err
	}
	defer release()
	if err := m.can(s); err != nil {
		return cbt.Point{}, nil, err
	}
	point, err := m.freeze(ctx, s)
	if err != nil {
		return cbt.Point{}, nil, err
	}
	exports, err := m.publish(ctx, s)
	if err != nil {
		// What is left is removed, or made anew, by the next call for this task.
		return cbt.Point{}, nil, errors.Join(err, m.giveUp(ctx, s, err))
	}
	d.at("published")
	return point, exports, nil
}

// giveUp removes a session that cannot be published, unless QEMU is gone or the
// caller is: then a later call goes on from what there is.
func (m *machine) giveUp(ctx context.Context, s cbt.Session, err error) error {
	if ctx.Err() != nil || errors.Is(err, cbt.ErrUnreachable) {
		return nil
	}
	return m.remove(ctx, m.ofSession(s.Seq), true)
}

// can says whether a session can be made or found: its checkpoint can, and the one it
// shows the changes since is recorded.
func (m *machine) can(s cbt.Session) error {
	if err := m.ready(s.Seq); err != nil || s.From == 0 {
		return err
	}
	_, err := m.t.Chain.Points(cbt.Span{From: s.From})
	return err
}

// freeze makes the checkpoint and the jobs that keep its moment, or finds them.
func (m *machine) freeze(ctx context.Context, s cbt.Session) (cbt.Point, error) {
	alive, err := m.alive(ctx, s.Seq)
	if err != nil {
		return cbt.Point{}, err
	}
	recorded := m.recorded(s.Seq)
	switch {
	case recorded != nil && !alive:
		return cbt.Point{}, m.gone(s.Seq)
	case recorded != nil:
		return *recorded, nil
	case alive && m.made(s.Seq):
		err := m.fold(ctx, s.Seq)
		return m.point(s.Seq), err
	}
	// Nobody was given what may be left: it goes, and a new moment is made.
	if err := m.remove(ctx, m.temporary(), true); err != nil {
		return cbt.Point{}, err
	}
	if err := m.fold(ctx, 0); err != nil {
		return cbt.Point{}, err
	}
	if err := errors.Join(m.room(), m.scratchRoom()); err != nil {
		return cbt.Point{}, err
	}
	return m.start(ctx, s)
}

func (m *machine) start(ctx context.Context, s cbt.Session) (cbt.Point, error) {
	var jobs, views list
	for i, n := range m.disks {
		scratch := m.part(s.Seq, "s", i)
		if err := m.scratch(ctx, scratch, n); err != nil {
			return cbt.Point{}, err
		}
		jobs = append(jobs, action("blockdev-backup", object{
			"job-id": m.part(s.Seq, "j", i), "device": n.Name, "target": scratch, "sync": "none", "auto-dismiss": false,
		}))
		if s.From > 0 {
			views = append(views, m.viewActions(n, m.part(s.Seq, "v", i), cbt.Span{From: s.From, To: s.Seq})...)
		}
	}
	m.at("prepared")
	if err := m.begin(ctx, s.Seq, jobs, views); err != nil {
		return cbt.Point{}, fmt.Errorf("freeze checkpoint %d: %w", s.Seq, err)
	}
	m.at("frozen")
	if err := m.look(ctx); err != nil {
		return cbt.Point{}, err
	}
	return m.point(s.Seq), nil
}

// alive says whether the moment of a checkpoint is still kept for all disks. A job
// that was canceled by somebody keeps nothing. It does not end when the scratch image
// cannot grow: then the guest's writes fail (QEMU 7.2), and the moment stays.
func (m *machine) alive(ctx context.Context, seq int) (bool, error) {
	jobs, err := m.jobs(ctx)
	if err != nil {
		return false, err
	}
	for i := range m.disks {
		if j, ok := jobs[m.part(seq, "j", i)]; !ok || j.Status != "running" {
			return false, nil
		}
	}
	return true, nil
}

// scratch makes the image that takes old data of a disk, and opens it over the disk.
// QEMU makes it, so no other program is needed.
func (m *machine) scratch(ctx context.Context, name string, n *node) error {
	path := m.scratchPath(name)
	file := name + "f"
	if err := m.create(ctx, name, object{"driver": "file", "filename": path, "size": 0}); err != nil {
		return err
	}
	if err := m.do(ctx, "blockdev-add", object{"driver": "file", "node-name": file, "filename": path}, nil); err != nil {
		return fmt.Errorf("open scratch file: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("protect scratch file: %w", err)
	}
	if err := m.create(ctx, name, object{"driver": "qcow2", "file": file, "size": n.Image.Size}); err != nil {
		return err
	}
	if err := m.do(ctx, "blockdev-add", object{"driver": "qcow2", "node-name": name, "file": file, "backing": n.Name}, nil); err != nil {
		return fmt.Errorf("open scratch image: %w", err)
	}
	return nil
}

func (m *machine) scratchPath(name string) string {
	return filepath.Join(m.t.Dir, name+scratchSuffix)
}

// create makes an image. That is a job, of which the error has to be fetched.
func (m *machine) create(ctx context.Context, name string, options object) error {
	id := name + "c"
	if err := m.do(ctx, "blockdev-create", object{"job-id": id, "options": options}, nil); err != nil {
		return fmt.Errorf("create scratch image: %w", err)
	}
	failed := ""
	err := m.until(ctx, func() (bool, error) {
		jobs, err := m.jobs(ctx)
		j, ok := jobs[id]
		failed = j.Error
		return !ok || j.Status == concluded, err
	})
	if err != nil {
		return err
	}
	if err := m.do(ctx, "job-dismiss", object{"id": id}, nil); err != nil {
		return fmt.Errorf("create scratch image: %w", err)
	}
	if failed != "" {
		return fmt.Errorf("create scratch image: %s", failed)
	}
	return nil
}

// publish exports the scratch images that are not exported yet, and opens each export
// as a reader would.
func (m *machine) publish(ctx context.Context, s cbt.Session) ([]cbt.Export, error) {
	if err := m.listen(ctx); err != nil {
		return nil, err
	}
	ids, err := m.exported(ctx)
	if err != nil {
		return nil, err
	}
	var exports []cbt.Export
	for i := range m.disks {
		e, id := m.describe(s, i), m.part(s.Seq, "e", i)
		bitmap := ""
		if e.Context != "" {
			bitmap = m.part(s.Seq, "v", i)
		}
		if !ids[id] {
			if err := m.export(ctx, id, e.ScratchNode, e.Name, bitmap); err != nil {
				return nil, err
			}
		}
		m.at("exported")
		if e.Size, err = m.proven(ctx, e); err != nil {
			return nil, err
		}
		exports = append(exports, e)
	}
	return exports, nil
}

func (m *machine) describe(s cbt.Session, disk int) cbt.Export {
	network, address := where(m.t)
	scratch := m.part(s.Seq, "s", disk)
	e := cbt.Export{
		Volume: m.t.Disks[disk].Volume, Network: network, Address: address, Name: s.ExportName(m.t.Task, disk),
		Mode: s.Mode(), Bitmap: m.name(s.Seq), Scratch: m.scratchPath(scratch), ScratchNode: scratch,
	}
	if s.From > 0 {
		e.Context = contextPrefix + m.part(s.Seq, "v", disk)
	}
	return e
}

func (m *machine) proven(ctx context.Context, e cbt.Export) (size uint64, err error) {
	var contexts []string
	if e.Context != "" {
		contexts = []string{e.Context}
	}
	client, err := m.reach(ctx, e.Name, contexts...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }() // its size is known by then
	return client.Size, nil
}

// Close ends a session; see cbt.Driver.
func (d *Driver) Close(ctx context.Context, t cbt.Target, s cbt.Session) error {
	m, release, err := d.connect(ctx, t)
	if errors.Is(err, cbt.ErrOff) {
		return d.sweepFiles(ctx, t, func(m *machine) selection { return m.ofSession(s.Seq) })
	}
	if err != nil {
		return err
	}
	defer release()
	return m.remove(ctx, m.ofSession(s.Seq), s.Force)
}
