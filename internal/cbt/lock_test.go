package cbt

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/testenv"
)

func TestLock(t *testing.T) {
	t.Parallel()
	target := Target{Dir: filepath.Join(t.TempDir(), "vm")}
	unlock, err := Lock(t.Context(), target, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(t.Context(), target, 3*lockTick); !errors.Is(err, ErrBusy) {
		t.Errorf("got error %v of a lock that is held, want ErrBusy", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ended, target, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	time.AfterFunc(2*lockTick, unlock)
	again, err := Lock(t.Context(), target, time.Minute)
	if err != nil {
		t.Fatalf("wait for the lock: %v", err)
	}
	again()
}

// TestMain is also the process that holds a lock, and is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CBT_LOCK_AND_HANG"); dir != "" {
		if _, err := Lock(context.Background(), Target{Dir: dir}, 0); err != nil {
			os.Exit(1)
		}
		_ = os.WriteFile(filepath.Join(dir, "held"), nil, 0o600)
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or its parent is: the pipe ends then
		return
	}
	os.Exit(m.Run())
}

func TestLockOfADeadProcess(t *testing.T) {
	t.Parallel()
	target := Target{Dir: t.TempDir()}
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "CBT_LOCK_AND_HANG="+target.Dir)
	if _, err := holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Process.Kill() })
	testenv.Eventually(t, 20*time.Second, func() error {
		_, err := os.Stat(filepath.Join(target.Dir, "held"))
		return err
	})
	if _, err := Lock(t.Context(), target, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("got error %v while another process holds it, want ErrBusy", err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	unlock, err := Lock(t.Context(), target, 0)
	if err != nil {
		t.Fatalf("after the holder's death: %v", err)
	}
	unlock()
}
