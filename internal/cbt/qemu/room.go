package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

// Scratch images grow with what guests overwrite. When their disk is full, QEMU has
// nowhere to put what a guest is about to overwrite: the guest's write fails, or the
// guest is stopped, as its device has it (werror). And whoever else has images on that
// disk cannot write either. A moment can be had again, a guest's write cannot. So
// sessions end before that: whoever watches the Room ends the largest of Scratches by
// Relieve, until enough is free. Where nobody watched, ending a session lets a guest go
// on that was stopped.
//
// The spare part of the disk is the time that a watcher has. Ending a session takes 20 ms,
// and has taken 260 ms while the guest kept QEMU busy; a guest that overwrites 2 GB each
// second uses up 2 GiB in one.
const (
	spareMost = 2 << 30
	sparePart = 10 // a tenth of a disk below 20 GiB
)

// Room is what a disk of scratch images has left, in bytes.
type Room struct {
	Free  uint64
	Spare uint64 // is kept free: sessions end before it is used up
}

// RoomOf looks at the disk of a directory.
func RoomOf(dir string) (Room, error) {
	free, total, err := space(dir)
	return Room{Free: free, Spare: min(total/sparePart, spareMost)}, err
}

// Short says whether sessions have to end.
func (r Room) Short() bool { return r.Free < r.Spare }

func (r Room) String() string {
	return fmt.Sprintf("%d bytes were free on the disk of its scratch images, where %d are kept", r.Free, r.Spare)
}

// A Scratch is a session with what its images take.
type Scratch struct {
	Task  string // its part of names
	Seq   int
	Bytes uint64
}

// Scratches are the sessions that have images in the directory of a machine, largest
// first.
func Scratches(dir string) []Scratch {
	type session struct {
		task string
		seq  int
	}
	sizes := map[session]uint64{}
	entries, _ := os.ReadDir(dir) // without a directory there are none
	for _, e := range entries {
		task, seq, ok := scratchOf(e.Name())
		if !ok {
			continue
		}
		if info, err := e.Info(); err == nil { // else it has just gone
			sizes[session{task, seq}] += uint64(info.Size()) //nolint:gosec // sizes are not negative
		}
	}
	var out []Scratch
	for s, bytes := range sizes {
		out = append(out, Scratch{s.task, s.seq, bytes})
	}
	slices.SortFunc(out, func(a, b Scratch) int {
		return cmp.Or(-cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Seq, b.Seq))
	})
	return out
}

// scratchOf says whose scratch image a file is.
func scratchOf(file string) (task string, seq int, ok bool) {
	name, ok := strings.CutSuffix(file, scratchSuffix)
	if !ok {
		return "", 0, false
	}
	task, rest, ok := cbt.ParseName(name)
	if !ok {
		return "", 0, false
	}
	digits, _, ok := strings.Cut(rest, "s")
	seq, err := strconv.Atoi(digits)
	return task, seq, ok && err == nil
}

// Relieve ends the session of t.Task that began with checkpoint seq, readers or not, and
// has Open tell why; the checkpoint stays. It is success if there is no such session.
func (d *Driver) Relieve(ctx context.Context, t cbt.Target, seq int, why string) error {
	m, release, err := d.connect(ctx, t)
	if errors.Is(err, cbt.ErrOff) { // no guest writes: what is left are files
		return d.Close(ctx, t, cbt.Session{Seq: seq})
	}
	if err != nil {
		return err
	}
	defer release()
	if !m.scratched(seq) {
		return nil // somebody was faster
	}
	if err := m.remove(ctx, m.ofSession(seq), true); err != nil {
		return err
	}
	if err := os.WriteFile(m.notePath(seq), []byte(why), 0o600); err != nil {
		return fmt.Errorf("note why the session has ended: %w", err)
	}
	return nil
}

func (m *machine) scratched(seq int) bool {
	return slices.ContainsFunc(Scratches(m.t.Dir), func(s Scratch) bool { return s.Task == m.task && s.Seq == seq })
}

// notePath is where Relieve says why a session has ended. The note goes with what is
// left of the session.
func (m *machine) notePath(seq int) string {
	return filepath.Join(m.t.Dir, m.name(seq)+"n"+noteSuffix)
}

// gone is why a recorded session does not live.
func (m *machine) gone(seq int) error {
	if why, err := os.ReadFile(m.notePath(seq)); err == nil {
		return fmt.Errorf("%w: it was ended for the guest to go on writing: %s", cbt.ErrSessionGone, why)
	}
	return fmt.Errorf("%w: the jobs of checkpoint %d have ended", cbt.ErrSessionGone, seq)
}

// starved says whether QEMU has stopped the guest since a disk of it was full, and there
// are selected scratch images, which may be why. A guest that is let go on when they are
// out of its way writes again what it could not.
func (m *machine) starved(ctx context.Context, chosen selection) (bool, error) {
	if !slices.ContainsFunc(m.all, func(n node) bool { return chosen.has(n.Name) }) {
		return false, nil
	}
	var state struct{ Status string }
	err := m.do(ctx, "query-status", nil, &state)
	if no := (*qmp.Error)(nil); errors.As(err, &no) {
		return false, nil // a storage daemon has no guest
	}
	if err != nil || state.Status != "io-error" {
		return false, err
	}
	var devices []struct {
		Status string `json:"io-status"`
	}
	err = m.do(ctx, "query-block", nil, &devices)
	for _, d := range devices {
		if d.Status == "nospace" {
			return true, err
		}
	}
	return false, err
}

// scratchRoom looks for the room that scratch images of all disks may need.
func (m *machine) scratchRoom() error {
	room, err := RoomOf(m.t.Dir)
	if err != nil {
		return err
	}
	need := room.Spare
	for _, n := range m.disks {
		need += n.Image.Size / scratchReserve
	}
	return cbt.NeedSpace(m.t.Dir, need)
}
