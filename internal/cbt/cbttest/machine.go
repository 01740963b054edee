package cbttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qmp"
	"github.com/takt-dev/takt/internal/testenv"
)

// Emulator is the QEMU that machines of tests run on.
const Emulator = "qemu-system-x86_64"

// startTimeout bounds the start of a QEMU, on a loaded host too.
const startTimeout = 20 * time.Second

// Need skips the test where a program is not installed, or fails it where CI is set.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed, and CI must not skip tests", name)
		}
		t.Skipf("%s is not installed: apt-get install qemu-system-x86 qemu-utils libnbd-bin", name)
	}
}

// Shape is what a machine of a test looks like. Zero is one qcow2 disk of 32 MiB.
type Shape struct {
	Disks  int
	Size   uint64   // of each disk, in bytes
	Format string   // cbt.FormatQcow2 if empty
	Create []string // more arguments for qemu-img create
	// Arguments, if set, replace those that make a machine without a processor.
	Arguments func(m *Machine) []string
}

// A Machine is a real QEMU without a guest: its disks are written through the
// monitor, which goes the way that a guest's writes go.
type Machine struct {
	// Target describes the machine, for a task of its own, with no checkpoints yet.
	Target cbt.Target
	// Roots allow the machine's files and no others.
	Roots cbt.Roots
	// Side is a second monitor, for the test alone.
	Side *qmp.Client

	t     testing.TB
	shape Shape
	cmd   *exec.Cmd
	ended chan struct{}
	model [][]byte // what each disk has to read as
}

// Start makes the disks and starts a machine, which ends with the test.
func Start(t testing.TB, shape Shape) *Machine {
	t.Helper()
	Need(t, Emulator, "qemu-img")
	shape.Disks = max(shape.Disks, 1)
	if shape.Size == 0 {
		shape.Size = 32 << 20
	}
	if shape.Format == "" {
		shape.Format = cbt.FormatQcow2
	}
	m := &Machine{t: t, shape: shape}
	dir := Dir(t)
	m.Roots = cbt.Roots{dir}
	m.Target = cbt.Target{Task: "0123456789abcdef0123456789abcdef", QMP: filepath.Join(dir, "qmp"), Dir: filepath.Join(dir, "vm")}
	for i := range shape.Disks {
		path := filepath.Join(dir, fmt.Sprintf("disk%d", i))
		arguments := append([]string{"create", "-q", "-f", shape.Format}, shape.Create...)
		Command(t, "qemu-img", append(arguments, path, fmt.Sprint(shape.Size))...)
		m.Target.Disks = append(m.Target.Disks, cbt.Disk{Volume: fmt.Sprintf("volume%d", i), Path: path, Format: shape.Format})
		m.model = append(m.model, make([]byte, shape.Size))
	}
	t.Cleanup(m.Kill)
	m.Boot()
	return m
}

// Dir is a directory of the test with a short path, as sockets need, that goes away
// with it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cbt-")
	if err != nil {
		t.Fatalf("make directory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Command runs a program to its end and returns what it wrote.
func Command(t testing.TB, name string, arguments ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, arguments...).Output()
	if err != nil {
		text := ""
		if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
			text = string(failed.Stderr)
		}
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, text)
	}
	return string(out)
}

// Boot starts the machine's QEMU, again if it has ended.
func (m *Machine) Boot() {
	m.t.Helper()
	side := m.Target.QMP + "-side"
	_ = os.Remove(side) // of the QEMU before
	arguments := []string{"-nodefaults", "-display", "none", "-S",
		"-qmp", "unix:" + m.Target.QMP + ",server=on,wait=off", "-qmp", "unix:" + side + ",server=on,wait=off"}
	if m.shape.Arguments != nil {
		arguments = append(arguments, m.shape.Arguments(m)...)
	} else {
		arguments = append(arguments, "-machine", "none")
	}
	for i, disk := range m.Target.Disks {
		arguments = append(arguments, "-drive",
			fmt.Sprintf("if=none,id=drive%d,format=%s,node-name=disk%d,discard=unmap,file.driver=file,file.filename=%s", i, disk.Format, i, disk.Path))
	}
	m.cmd = exec.Command(Emulator, arguments...)
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = childAttr()
	m.ended = make(chan struct{})
	if err := start(m.cmd, m.ended); err != nil {
		m.t.Fatalf("start QEMU: %v", err)
	}
	testenv.Eventually(m.t, startTimeout, func() (err error) {
		m.Side, err = qmp.Dial(m.t.Context(), "unix", side)
		return err
	})
	// While QEMU starts, a monitor may take a connection and drop it.
	testenv.Eventually(m.t, startTimeout, func() error {
		monitor, err := qmp.Dial(m.t.Context(), "unix", m.Target.QMP)
		if err == nil {
			err = monitor.Close()
		}
		return err
	})
}

// Kill ends QEMU as kill -9 does.
func (m *Machine) Kill() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill() // it may have ended
	<-m.ended
}

// Freeze stops QEMU's process in its tracks until Thaw: it takes connections and answers
// nothing.
func (m *Machine) Freeze() { freeze(m.t, m.cmd.Process) }

// Thaw ends a Freeze.
func (m *Machine) Thaw() { thaw(m.t, m.cmd.Process) }

// Quit ends QEMU in order, which stores bitmaps.
func (m *Machine) Quit() {
	m.t.Helper()
	m.Do("quit", nil, nil)
	<-m.ended
}

// Do runs a command on the side monitor.
func (m *Machine) Do(command string, arguments map[string]any, result any) {
	m.t.Helper()
	if err := m.Side.Do(context.WithoutCancel(m.t.Context()), command, arguments, result); err != nil {
		m.t.Fatalf("%v", err)
	}
}

// Monitor runs a command for people and returns what it prints.
func (m *Machine) Monitor(line string) (text string) {
	m.t.Helper()
	m.Do("human-monitor-command", map[string]any{"command-line": line}, &text)
	return text
}

// Write fills a stretch of a disk with a byte, as a guest would, down to the file.
func (m *Machine) Write(disk int, offset, length uint64, value byte) {
	m.t.Helper()
	before := m.writes(disk)
	m.io(disk, fmt.Sprintf("aio_write -q -P %d %d %d", value, offset, length))
	if m.writes(disk) != before+1 {
		m.t.Fatalf("%d bytes at %d of disk %d were not written", length, offset, disk)
	}
	fill(m.model[disk][offset:offset+length], value)
}

// Zero writes zeros without data, which QEMU does not count.
func (m *Machine) Zero(disk int, offset, length uint64) {
	m.t.Helper()
	m.io(disk, fmt.Sprintf("aio_write -q -z %d %d", offset, length))
	clear(m.model[disk][offset : offset+length])
}

// io runs a command of qemu-io on a drive: through it, not on the node below, go a
// guest's writes. The outcome goes to QEMU's own output: ask the drive's counters.
func (m *Machine) io(disk int, line string) {
	m.t.Helper()
	m.Monitor(fmt.Sprintf("qemu-io drive%d %q", disk, line))
	m.Monitor(fmt.Sprintf("qemu-io drive%d aio_flush", disk))
	m.Monitor(fmt.Sprintf("qemu-io drive%d flush", disk))
}

// writes is how many writes to a drive have succeeded.
func (m *Machine) writes(disk int) int {
	m.t.Helper()
	var all []struct {
		Device string
		Stats  struct {
			Writes int `json:"wr_operations"`
		}
	}
	m.Do("query-blockstats", nil, &all)
	for _, one := range all {
		if one.Device == fmt.Sprintf("drive%d", disk) {
			return one.Stats.Writes
		}
	}
	m.t.Fatalf("no drive%d in %+v", disk, all)
	return 0
}

func fill(p []byte, value byte) {
	for i := range p {
		p[i] = value
	}
}

// Image is a copy of what a disk has to read as now.
func (m *Machine) Image(disk int) []byte { return append([]byte(nil), m.model[disk]...) }
