package qemu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/internal/cbt/qmp"
	"github.com/takt-dev/takt/internal/testenv"
)

// program is a boot sector: it writes 64 times 4 KiB to the second disk by the BIOS,
// from 1 MiB on, 256 KiB apart, and stops.
var program = append(append([]byte{
	0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, // no interrupts, segments 0, a stack
	0xfb, 0xbd, 0x40, 0x00, // bp = 64
	0xbe, 0x34, 0x7c, 0xb2, 0x81, 0xb8, 0x00, 0x43, 0xcd, 0x13, // extended write, packet at 7c34, disk 81h
	0x72, 0x0c, // an error: stop
	0x66, 0x81, 0x06, 0x3c, 0x7c, 0x00, 0x02, 0x00, 0x00, // the packet's sector += 512
	0x4d, 0x75, 0xe8, // again while --bp
	0xf4, 0xeb, 0xfd, // halt
	0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
	0x10, 0x00, 0x08, 0x00, 0x00, 0x7c, 0x00, 0x00, 0x00, 0x08, // the packet: 8 sectors of 0:7c00 to sector 2048
}, make([]byte, 448)...), 0x55, 0xaa)

// booting makes a machine whose guest is program.
func booting(t *testing.T) cbttest.Shape {
	return cbttest.Shape{Arguments: func(m *cbttest.Machine) []string {
		boot := m.Target.QMP + "-boot"
		if err := os.WriteFile(boot, append(program, make([]byte, 1<<20)...), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{
			"-machine", "pc,accel=tcg", "-m", "32",
			"-drive", "if=none,id=boot,format=raw,file=" + boot, "-device", "virtio-blk-pci,drive=boot,bootindex=0",
			"-device", "virtio-blk-pci,drive=drive0",
		}
	}}
}

// written are the blocks that program writes to.
func written() (blocks []uint64) {
	for i := range uint64(64) {
		blocks = append(blocks, (1<<20+i*256<<10)/block)
	}
	return blocks
}

func TestGuestWrites(t *testing.T) {
	t.Parallel()
	b := newBench(t, booting(t))
	target := mark(t, b.driver, b.Target(), 1)
	p, exports, err := b.driver.Open(t.Context(), target, cbt.Session{Seq: 2, From: 1, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	target.Chain = append(target.Chain, p)
	b.Do("cont", nil, nil)
	want := written()
	testenv.Eventually(t, 20*time.Second, func() error {
		if got := changed(t, b.driver, target, cbt.Span{From: 2}); len(got) < len(want) {
			return fmt.Errorf("the guest has written %d blocks", len(got))
		}
		return nil
	})
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 2}), want...)
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1, To: 2}))
	moment := make([]byte, exports[0].Size)
	client, err := nbd.Dial(t.Context(), exports[0].Network, exports[0].Address, exports[0].Name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Read(t.Context(), moment, 0); err != nil || !bytes.Equal(moment, make([]byte, len(moment))) {
		t.Errorf("the session does not show the disk before the guest wrote (error %v)", err)
	}
}

// Nobody watches, the scratch image cannot grow, and QEMU stops the guest. Ending the
// session, in whichever way, lets it go on, and no write of it has failed: after one
// that does, program stops.
func TestStarvedGuestGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(d *Driver, target cbt.Target, s cbt.Session) error
	}{
		{"it is relieved", func(d *Driver, target cbt.Target, s cbt.Session) error {
			return d.Relieve(t.Context(), target, s.Seq, "why")
		}},
		{"it is relieved by the next after one who died", func(d *Driver, target cbt.Target, s cbt.Session) error {
			dying := &Driver{Roots: d.Roots, step: func(name string) {
				if name == "jobs gone" {
					runtime.Goexit()
				}
			}}
			var died sync.WaitGroup
			died.Go(func() { _ = dying.Relieve(t.Context(), target, s.Seq, "why") })
			died.Wait()
			return d.Relieve(t.Context(), target, s.Seq, "why")
		}},
		{"the session is closed", func(d *Driver, target cbt.Target, s cbt.Session) error {
			return d.Close(t.Context(), target, s)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, booting(t))
			small := cbttest.SmallDisk(t, 4<<20) // the guest overwrites as much
			b.Machine.Roots = append(b.Roots, small)
			b.Revive()
			b.Write(0, 0, 32<<20, 1)
			target := b.Target()
			target.Dir = filepath.Join(small, "vm")
			target, s, _ := b.frozen(mark(t, b.driver, target, 1), 2)
			b.Do("cont", nil, nil)
			b.wantStatus("io-error")
			if err := c.end(b.driver, target, s); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, 20*time.Second, func() error {
				if got := changed(t, b.driver, target, cbt.Span{From: 2}); len(got) < len(written()) {
					return fmt.Errorf("the guest has written %d blocks", len(got))
				}
				return nil
			})
			wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 2}), written()...)
			b.wantStatus("running")
		})
	}
}

// wantStatus waits for a state of the machine.
func (b *bench) wantStatus(want string) {
	b.Helper()
	testenv.Eventually(b, 20*time.Second, func() error {
		var got struct{ Status string }
		b.Do("query-status", nil, &got)
		if got.Status != want {
			return fmt.Errorf("the machine is %s, want %s", got.Status, want)
		}
		return nil
	})
}

// The storage daemon speaks the same language, with no machine around the disks.
func TestStorageDaemon(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "qemu-storage-daemon", "qemu-img")
	dir := cbttest.Dir(t)
	target := cbt.Target{
		Task: "0123456789abcdef", QMP: filepath.Join(dir, "qmp"), Dir: filepath.Join(dir, "vm"),
		Disks: []cbt.Disk{{Volume: "volume", Path: filepath.Join(dir, "disk"), Format: cbt.FormatQcow2}},
	}
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", target.Disks[0].Path, "32M")
	cbttest.Spawn(t, "qemu-storage-daemon",
		"--chardev", "socket,id=ours,server=on,wait=off,path="+target.QMP, "--monitor", "chardev=ours",
		"--blockdev", "driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename="+target.Disks[0].Path)
	d := &Driver{Roots: cbt.Roots{dir}}
	write := writable(t, target)
	target = mark(t, d, target, 1)
	write(3*block, block)
	s := cbt.Session{Seq: 2, From: 1, Token: token}
	p, exports, err := d.Open(t.Context(), target, s)
	if err != nil {
		t.Fatal(err)
	}
	target.Chain = append(target.Chain, p)
	write(7*block, 2*block)
	wantBlocks(t, changed(t, d, target, cbt.Span{From: 1, To: 2}), 3)
	wantBlocks(t, changed(t, d, target, cbt.Span{From: 2}), 7, 8)
	client, err := nbd.Dial(t.Context(), exports[0].Network, exports[0].Address, exports[0].Name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	later := make([]byte, block)
	if err := client.Read(t.Context(), later, 7*block); err != nil || !bytes.Equal(later, make([]byte, block)) {
		t.Errorf("the session shows what was written later (error %v)", err)
	}
	client.Close()
	if err := d.Close(t.Context(), target, s); err != nil {
		t.Errorf("close: %v", err)
	}
}

// writable starts the daemon's NBD server where the driver would, and returns what
// writes to its disk.
func writable(t *testing.T, target cbt.Target) func(offset, length uint64) {
	t.Helper()
	do := func(command string, arguments object) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			client, err := qmp.Dial(t.Context(), "unix", target.QMP)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Do(t.Context(), command, arguments, nil)
		})
	}
	if err := os.MkdirAll(target.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	network, address := where(target)
	do("nbd-server-start", object{"addr": object{"type": "unix", "data": object{"path": address}}})
	do("block-export-add", object{"type": "nbd", "id": "guest", "node-name": "disk", "name": "guest", "writable": true})
	client, err := nbd.Dial(t.Context(), network, address, "guest", nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return func(offset, length uint64) {
		t.Helper()
		if err := client.Write(t.Context(), bytes.Repeat([]byte{7}, int(length)), offset); err != nil {
			t.Fatal(err)
		}
		if err := client.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
