package store_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// A lostNode makes the commands of a pipeline fail that go to one partition, as a
// node of a cluster does that is away, while the others succeed.
type lostNode struct{ tag string }

var errAway = errors.New("the node is away")

func (l *lostNode) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (l *lostNode) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (l *lostNode) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if l.tag == "" {
			return err
		}
		err = nil
		for _, cmd := range cmds {
			if args := cmd.Args(); len(args) > 1 {
				if key, _ := args[1].(string); strings.Contains(key, l.tag) {
					cmd.SetErr(errAway)
				}
			}
			if err == nil {
				err = cmd.Err()
			}
		}
		return err
	}
}

// TestHalfAPipelineIsNoAnswer reads something that is not there together with
// something that cannot be read: the first must not hide the second.
func TestHalfAPipelineIsNoAnswer(t *testing.T) {
	t.Parallel()
	node := &lostNode{}
	s := store.New(testenv.Redis(t).Client(t, node), store.Options{Partitions: 2})
	in := func(partition int) string {
		for {
			if uuid := id.New(); id.Partition(uuid, 2) == partition {
				return uuid
			}
		}
	}
	missing, present := in(0), in(1)
	ctx := t.Context()
	for _, err := range []error{
		s.CreateJob(ctx, core.Job{Meta: core.Meta{UUID: present}}),
		s.CreateGroup(ctx, core.Group{Meta: core.Meta{UUID: in(1)}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	run := core.Run{ID: s.NewRunID(present, time.Now(), "r"), Target: core.Target{Kind: core.JobTarget, UUID: present}, Request: "r"}
	if _, err := s.Admit(ctx, core.Admission{Run: run, Plan: plan(1), Routes: []core.Route{queued(0)}, Remember: time.Hour}); err != nil {
		t.Fatal(err)
	}
	gone := core.Dispatch{Run: s.NewRunID(missing, time.Now(), "gone")}
	node.tag = ":1}"
	for name, read := range map[string]func() error{
		"jobs":     func() error { _, err := s.Jobs(ctx, []string{missing, present}); return err },
		"groups":   func() error { _, err := s.Groups(ctx, []string{missing, present}); return err },
		"planned":  func() error { _, err := s.PlannedSteps(ctx, []core.Dispatch{gone, {Run: run.ID}}); return err },
		"settle":   func() error { return s.SettleMember(ctx, missing, present) },
		"settle 2": func() error { return s.SettleMember(ctx, present, missing) },
	} {
		wantErrorKind(t, name, read(), core.Unavailable)
	}
}

// TestScriptsAreLoadedAgain runs the pipelined script on a server that has lost
// its scripts, as after a fail-over.
func TestScriptsAreLoadedAgain(t *testing.T) {
	w := newWorld(t, store.Options{})
	tr := w.trigger("T", slot(1))
	for i := 1; i <= 3; i++ {
		w.ok(w.rdb.ScriptFlush(t.Context()).Err())
		moved := must(w.store.Advance(t.Context(), []core.Advance{{Trigger: tr, Revision: 1, From: slot(i), Next: slot(i + 1)}}))(w)
		wantEqual(t, "moved", moved, []bool{true})
	}
}
