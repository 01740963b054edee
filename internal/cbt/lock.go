package cbt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockTick is the time between two tries to get a machine's lock.
const lockTick = 10 * time.Millisecond

// Lock takes the lock of a machine on its host, which one process at a time holds
// while it changes something there. A step's fence protects the store from a worker
// that was given up and has not noticed; this protects the machine from it. The
// kernel releases it when the process dies. ErrBusy: it is held for longer than
// wait.
func Lock(ctx context.Context, t Target, wait time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the machine: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(t.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := flock(ctx, f, wait); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func flock(ctx context.Context, f *os.File, wait time.Duration) error {
	tick := time.NewTicker(lockTick)
	defer tick.Stop()
	for end := time.Now().Add(wait); ; {
		err := tryLock(f)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %s is locked", ErrBusy, f.Name())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
