package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/internal/testenv"
)

// What Redis acknowledged on a disk that runs full is there once there is room
// again, and Redis goes on.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "limit"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			d, err := openDisk(filepath.Join(dir, "redis"), kind, 16<<20)
			if err != nil && os.Geteuid() != 0 {
				t.Skip("mounting takes root: ", err)
			} else if err != nil && strings.Contains(err.Error(), "not permitted") {
				t.Skip("mounting is not allowed here: ", err)
			} else if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(d.close)
			h := &house{disk: d}
			if h.redis, err = startRedis(t.Context(), dir, d); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.redis.kill)
			fillWhileWriting(t, h)
			if got := h.redis.unordered(); got != nil {
				t.Errorf("its end on a full disk is told as %v", got)
			}
		})
	}
}

func fillWhileWriting(t *testing.T, h *house) {
	t.Helper()
	write := func(n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return h.redis.client.Set(ctx, fmt.Sprint("key-", n), strings.Repeat("x", 512), 0).Err()
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	heal, err := h.strike(plan.Fault{Kind: plan.DiskFull})
	if err != nil {
		t.Fatal(err)
	}
	acked := 0
	testenv.Eventually(t, 20*time.Second, func() bool {
		if write(acked+1) != nil {
			return true
		}
		acked++
		return false
	})
	if err := heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range acked + 1 {
		if err := h.redis.client.Get(t.Context(), fmt.Sprint("key-", n)).Err(); err != nil {
			t.Errorf("acknowledged key %d of %d: %v", n, acked, err)
		}
	}
	if err := write(acked + 1); err != nil {
		t.Errorf("write after there is room again: %v", err)
	}
}
