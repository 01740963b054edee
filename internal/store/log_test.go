package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// A log is read piece by piece while it is live; archived, its tail is one piece
// and the stream and its timer are gone.
func TestArchiveLog(t *testing.T) {
	t.Parallel()
	srv := testenv.Redis(t)
	rdb := srv.Client(t, testenv.SameSlot(t))
	s := store.New(rdb, store.Options{})
	ctx := t.Context()
	target := strings.Repeat("ab", 16)
	run := s.NewRunID(target, time.Now(), "r")
	a, err := s.Admit(ctx, core.Admission{
		Run:  core.Run{ID: run, Request: "r", Target: core.Target{Kind: core.JobTarget, UUID: target}},
		Plan: []core.PlannedStep{{Job: target, Type: "noop", Timeout: time.Minute}}, Routes: []core.Route{{Queue: "default"}}, Remember: time.Hour,
	})
	if err != nil || a.Word != core.AdmitStarted {
		t.Fatalf("admit: %+v, %v", a, err)
	}
	long := strings.Repeat("0123456789abcde\n", 8<<10) // 128 KiB
	for i, text := range []string{"head\n", long, "tail\n"} {
		if _, err := s.AppendLog(ctx, run, 0, 1, text, i == 2); err != nil {
			t.Fatal(err)
		}
	}
	live, err := s.ReadLog(ctx, run, 0, 1, "")
	if err != nil || len(live) != 3 || live[0].Text != "head\n" || !live[2].End {
		t.Fatalf("live log: %d pieces, %v; want the three that were written, the last one marked", len(live), err)
	}
	timer := func() bool {
		for n := range s.Partitions() {
			due, err := s.Due(ctx, []int{n}, time.Now().Add(store.LogLife+time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range due[n] {
				if strings.Join(d, "|") == "log|"+run+"|0|1" {
					return true
				}
			}
		}
		return false
	}
	if !timer() {
		t.Fatal("the ended log has no timer")
	}
	if err := s.ArchiveLog(ctx, run, 0, 1); err != nil {
		t.Fatal(err)
	}
	got, err := s.ReadLog(ctx, run, 0, 1, "")
	if err != nil || len(got) != 1 || !got[0].End {
		t.Fatalf("archived log: %d pieces, %v; want one, marked as the last", len(got), err)
	}
	if want := (long + "tail\n")[len(long)+5-96<<10:]; got[0].Text != want {
		t.Errorf("archived log has %d bytes, want the last %d", len(got[0].Text), len(want))
	}
	if more, err := s.ReadLog(ctx, run, 0, 1, got[0].Position); err != nil || len(more) != 0 {
		t.Errorf("after the archived piece: %d pieces, %v; want none", len(more), err)
	}
	if timer() {
		t.Error("the timer is still there")
	}
	if keys := rdb.Keys(ctx, "*:log:*").Val(); len(keys) != 0 {
		t.Errorf("the stream is still there: %v", keys)
	}
}
