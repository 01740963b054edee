package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/internal/testenv"
)

const token = "00112233445566778899aabbccddeeff"

// bench is a machine that is off, with two disks of 4 MiB.
type bench struct {
	*cbttest.Machine
	Server
	t *testing.T
}

func newBench(t *testing.T, format string) *bench {
	t.Helper()
	cbttest.Need(t, DefaultProgram, "nbdcopy", "qemu-img")
	b := &bench{Machine: cbttest.Start(t, cbttest.Shape{Disks: 2, Size: 4 << 20, Format: format}), t: t}
	b.Server.Roots = b.Machine.Roots
	b.Quit()
	t.Cleanup(func() {
		if _, err := b.Unexport(context.WithoutCancel(t.Context()), b.Target, Ask{Force: true}); err != nil {
			t.Errorf("end the exports: %v", err)
		}
	})
	return b
}

func (b *bench) export(ask Ask) []cbt.Export {
	b.t.Helper()
	exports, err := b.Export(b.t.Context(), b.Target, ask)
	if err != nil {
		b.t.Fatalf("got error: %v", err)
	}
	return exports
}

func (b *bench) unexport(ask Ask) []cbt.Export {
	b.t.Helper()
	left, err := b.Unexport(b.t.Context(), b.Target, ask)
	if err != nil {
		b.t.Fatalf("got error: %v", err)
	}
	return left
}

// reads is what a disk holds, as qemu-img sees it.
func (b *bench) reads(disk int) []byte {
	b.t.Helper()
	out := filepath.Join(cbttest.Dir(b.t), "raw")
	cbttest.Command(b.t, "qemu-img", "convert", "-f", b.Target.Disks[disk].Format, "-O", "raw", b.Target.Disks[disk].Path, out)
	data, err := os.ReadFile(out)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// restore writes a content to an export with a program that is not ours.
func (b *bench) restore(e cbt.Export, value byte) []byte {
	b.t.Helper()
	data := bytes.Repeat([]byte{value}, 4<<20)
	file := filepath.Join(cbttest.Dir(b.t), "backup")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	cbttest.Command(b.t, "nbdcopy", "--flush", file, e.URI())
	return data
}

func TestRestore(t *testing.T) {
	t.Parallel()
	for _, format := range []string{cbt.FormatRaw, cbt.FormatQcow2} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, format)
			exports := b.export(Ask{Token: token})
			if len(exports) != 2 || exports[0].Volume != "volume0" || exports[1].Size != 4<<20 {
				t.Fatalf("got exports %+v", exports)
			}
			first, second := b.restore(exports[0], 7), b.restore(exports[1], 8)
			// Another worker, by what is there alone.
			b.Server = Server{Roots: b.Server.Roots}
			if diff := cmp.Diff(exports, b.export(Ask{Token: token})); diff != "" {
				t.Errorf("exported again (-first +again):\n%s", diff)
			}
			if left := b.unexport(Ask{Volumes: []string{"volume0"}}); !cmp.Equal(left, exports[1:]) {
				t.Errorf("left are %+v, want the second", left)
			}
			if !bytes.Equal(b.reads(0), first) {
				t.Error("the first disk does not read as was restored")
			}
			b.unexport(Ask{})
			if left := b.unexport(Ask{}); len(left) > 0 {
				t.Errorf("left are %+v", left)
			}
			if !bytes.Equal(b.reads(1), second) {
				t.Error("the second disk does not read as was restored")
			}
			if _, err := os.Stat(monitor(b.Target)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the daemon's socket: %v, want it gone", err)
			}
			b.Boot() // the images are free
		})
	}
}

func TestOverTCPWithTLS(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbt.FormatRaw)
	certs := cbttest.Certs(t)
	b.Server.Roots = append(b.Server.Roots, certs, filepath.Dir(certs))
	b.Target.Listen = cbt.Listen{Host: "127.0.0.1", Port: cbttest.Port(t), Certs: certs}
	e := b.export(Ask{Volumes: []string{"volume1"}, Token: token})[0]
	config, err := nbd.ClientTLS(certs, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{TLS: config})
	if err != nil {
		t.Fatalf("got error: %v", err)
	}
	_ = client.Close()
	if client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{}); err == nil {
		_ = client.Close()
		t.Error("the export is served without TLS")
	}
}

func TestForceReplacesAnExport(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbt.FormatRaw)
	old := b.export(Ask{Volumes: []string{"volume0"}, Token: token})[0]
	other := Ask{Token: "ffffffffffffffff"}
	if _, err := b.Export(t.Context(), b.Target, other); !errors.Is(err, cbt.ErrInUse) {
		t.Fatalf("got error %v for a volume that is exported, want ErrInUse", err)
	}
	if now, err := b.Exports(t.Context(), b.Target); err != nil || !cmp.Equal(now, []cbt.Export{old}) {
		t.Errorf("exported are %+v, %v, want the old one alone", now, err)
	}
	client, err := nbd.Dial(t.Context(), old.Network, old.Address, old.Name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := b.Unexport(t.Context(), b.Target, Ask{}); !errors.Is(err, cbt.ErrInUse) {
		t.Errorf("got error %v with a client, want ErrInUse", err)
	}
	other.Force = true
	exports := b.export(other)
	if len(exports) != 2 || exports[0].Name == old.Name {
		t.Errorf("got exports %+v", exports)
	}
	if err := client.Read(t.Context(), make([]byte, 512), 0); err == nil {
		t.Error("the old client goes on")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbt.FormatQcow2)
	outside := filepath.Join(cbttest.Dir(t), "outside")
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "raw", outside, "4M")
	leading := filepath.Join(filepath.Dir(b.Target.Disks[0].Path), "leading")
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", outside, "-F", "raw", leading)
	for _, c := range []struct {
		name string
		ask  Ask
		with func(s *Server, t *cbt.Target)
		want error
	}{
		{"unknown volume", Ask{Volumes: []string{"volume9"}, Token: token}, nil, cbt.ErrNoDisk},
		{"no image", Ask{Token: token}, func(_ *Server, t *cbt.Target) { t.Disks[1].Path += "x" }, cbt.ErrNoDisk},
		{"image elsewhere", Ask{Token: token}, func(_ *Server, t *cbt.Target) { t.Disks[1] = cbt.Disk{Volume: "v", Path: outside, Format: "raw"} }, cbt.ErrNotAllowed},
		{"backing elsewhere", Ask{Token: token}, func(_ *Server, t *cbt.Target) { t.Disks[1].Path = leading }, cbt.ErrNotAllowed},
		{"no program", Ask{Token: token}, func(s *Server, _ *cbt.Target) { s.Program = "qemu-of-nowhere" }, cbt.ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, target := Server{Roots: b.Server.Roots}, b.Target
			target.Disks = append([]cbt.Disk(nil), target.Disks...)
			if c.with != nil {
				c.with(&s, &target)
			}
			if _, err := s.Export(t.Context(), target, c.ask); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if left, err := s.Exports(t.Context(), target); err != nil || len(left) > 0 {
				t.Errorf("left are %+v, %v, want none", left, err)
			}
		})
	}
	if _, err := b.Export(t.Context(), b.Target, Ask{Token: "short"}); err == nil {
		t.Error("a token that can be guessed is taken")
	}
}

func TestMachineRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbt.FormatQcow2)
	b.Boot()
	if _, err := b.Export(t.Context(), b.Target, Ask{Token: token}); !errors.Is(err, cbt.ErrInUse) {
		t.Errorf("got error %v while the machine runs, want ErrInUse", err)
	}
	b.Target.QMP = "" // its process is not known: the image's locks tell
	if _, err := b.Export(t.Context(), b.Target, Ask{Token: token}); !errors.Is(err, cbt.ErrInUse) {
		t.Errorf("got error %v while an image is written, want ErrInUse", err)
	}
}

func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbt.FormatRaw)
	e := b.export(Ask{Token: token})[0]
	text, err := os.ReadFile(pidFile(b.Target))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill the daemon: %v", err)
	}
	testenv.Eventually(t, 5*time.Second, func() error {
		if d, err := b.find(t.Context(), b.Target); d != nil || err != nil {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
	if left := b.unexport(Ask{}); len(left) > 0 {
		t.Errorf("left are %+v, want none: the daemon is dead", left)
	}
	if again := b.export(Ask{Token: token})[0]; again != e {
		t.Errorf("got export %+v, want %+v", again, e)
	}
}

// A daemon that ends closes its monitor first. The next one waits until it is gone.
func TestDaemonThatEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbt.FormatRaw)
	if err := os.MkdirAll(b.Target.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ending, err := os.Create(pidFile(b.Target))
	if err != nil {
		t.Fatal(err)
	}
	const setOpenLock = 37 // F_OFD_SETLK, as QEMU does
	if err := syscall.FcntlFlock(ending.Fd(), setOpenLock, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	hasty, cancel := context.WithTimeout(t.Context(), 3*tick)
	defer cancel()
	if _, err := b.Export(hasty, b.Target, Ask{Token: token}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v while the daemon before ends, want that of the context", err)
	}
	time.AfterFunc(10*tick, func() { _ = ending.Close() })
	if exports := b.export(Ask{Token: token}); len(exports) != 2 {
		t.Errorf("got exports %+v", exports)
	}
}
