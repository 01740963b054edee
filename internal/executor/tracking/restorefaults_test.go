package tracking

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/volume"
	"github.com/takt-dev/takt/pkg/executor"
)

// A restore that comes again finds its room taken by what attempts before have made, whole
// or in part. That is no reason to refuse it.
func TestRestoreIntoFilesAgainWithoutRoom(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	small := cbttest.SmallDisk(t, 2<<20)
	into := filepath.Join(small, "into")
	if err := os.Mkdir(into, 0o700); err != nil {
		t.Fatal(err)
	}
	k.set.Roots = append(k.set.Roots, small)
	k.start()
	k.two() // 1.25 MiB have to be written for the first volume
	o := k.seqOrder(cbt.OpRestore, 2)
	o.Into, o.Volumes = into, []string{"volume0"}
	if err := os.WriteFile(filepath.Join(into, "volume0.raw.partial"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	k.do(o, nil) // after the worker's death
	fill(t, into)
	k.do(o, nil) // after an answer that was lost
	if !strings.Contains(k.log.String(), "volume volume0 is restored already") {
		t.Errorf("the log does not say that the file was found: %s", k.log.String())
	}
	o.Volumes = []string{"volume0", "volume1"}
	_, err := k.run(o, hooks{})
	if !errors.Is(err, cbt.ErrNoSpace) || !executor.IsPermanent(err) {
		t.Errorf("got error %v of a volume that has no room, want ErrNoSpace", err)
	}
	if left, err := filepath.Glob(filepath.Join(into, "volume1*")); err != nil || len(left) > 0 {
		t.Errorf("of the volume that has no room there is %v, error %v", left, err)
	}
}

// A restore that is canceled ends also when the daemon that serves the volumes hangs.
func TestRestoreWhoseDaemonHangs(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, volume.DefaultProgram)
	k := keeping(newRaw(t))
	k.write(0, 0, 1<<20, 1)
	k.backup(1, 0)
	monitor := filepath.Join(k.set.Dir, machine, "restore.qmp")
	ctx, cancel := context.WithCancelCause(t.Context())
	var canceled time.Time
	var heard <-chan string
	_, err := k.run(k.seqOrder(cbt.OpRestore, 1), hooks{ctx: ctx, line: func(line string) {
		if !strings.HasPrefix(line, "restore volume") || heard != nil {
			return
		}
		if err := os.Rename(monitor, monitor+".well"); err != nil {
			t.Errorf("hide the daemon: %v", err)
		}
		var stop func()
		heard, stop = cbttest.Mute(t, monitor)
		t.Cleanup(func() {
			stop()
			if err := os.Rename(monitor+".well", monitor); err != nil {
				t.Errorf("bring the daemon back: %v", err)
			}
			target := k.target(k.set.Machines[0], cbt.Order{Task: task}, cbt.Record{})
			if _, err := k.volumes.Unexport(context.WithoutCancel(t.Context()), target, volume.Ask{Force: true}); err != nil {
				t.Errorf("end the daemon: %v", err)
			}
		})
		canceled = time.Now()
		cancel(executor.ErrCanceled)
	}})
	took := time.Since(canceled)
	if !errors.Is(err, executor.ErrCanceled) || took > 2*undoWait {
		t.Errorf("got error %v, %v after the cancel; want that it was canceled, within %v", err, took, 2*undoWait)
	}
	select {
	case <-heard:
	default:
		t.Error("the daemon was asked for nothing")
	}
}
