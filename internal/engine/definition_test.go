package engine_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestCreateJobChecks(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("ü", core.MaxName)
	for _, row := range []struct {
		name  string
		job   core.Job
		field string // "" = valid
	}{
		{"all that is needed", core.Job{Meta: named("j"), Type: "noop"}, ""},
		{"everything", core.Job{
			Meta: core.Meta{UUID: id.New(), Name: long, Description: strings.Repeat("ü", core.MaxDescription)}, Type: "strict", Target: id.New(),
			Parameters: map[string]string{"text": "a|b\n", "count": "7"}, Timeout: core.MaxTimeout, Priority: core.PriorityLow, Retry: core.Retry{Attempts: 3},
		}, ""},
		{"the shortest timeout", core.Job{Meta: named("j"), Type: "noop", Timeout: time.Second}, ""},
		{"no name", core.Job{Type: "noop"}, "name"},
		{"a blank name", core.Job{Meta: named(" \t\n"), Type: "noop"}, "name"},
		{"a long name", core.Job{Meta: named(long + "x"), Type: "noop"}, "name"},
		{"a broken name", core.Job{Meta: named("a\xffb"), Type: "noop"}, "name"},
		{"a long description", core.Job{Meta: core.Meta{Name: "j", Description: strings.Repeat("x", core.MaxDescription+1)}, Type: "noop"}, "description"},
		{"a short uuid", core.Job{Meta: core.Meta{UUID: "abc", Name: "j"}, Type: "noop"}, "uuid"},
		{"a uuid with dashes", core.Job{Meta: core.Meta{UUID: "0a0b0c0d-0e0f-4010-8011-121314151617", Name: "j"}, Type: "noop"}, "uuid"},
		{"no type", core.Job{Meta: named("j")}, "type"},
		{"an unknown type", core.Job{Meta: named("j"), Type: "StartVM"}, "type"},
		{"a missing parameter", core.Job{Meta: named("j"), Type: "strict"}, "parameters.text"},
		{"a malformed parameter", core.Job{Meta: named("j"), Type: "strict", Parameters: map[string]string{"text": "x", "count": "many"}}, "parameters.count"},
		{"an unknown parameter", core.Job{Meta: named("j"), Type: "strict", Parameters: map[string]string{"text": "x", "other": "y"}}, "parameters.other"},
		{"a bad target", core.Job{Meta: named("j"), Type: "noop", Target: "vm-1"}, "target"},
		{"a bad priority", core.Job{Meta: named("j"), Type: "noop", Priority: "high"}, "priority"},
		{"a negative timeout", core.Job{Meta: named("j"), Type: "noop", Timeout: -time.Second}, "timeout"},
		{"a timeout below a second", core.Job{Meta: named("j"), Type: "noop", Timeout: time.Millisecond}, "timeout"},
		{"a long timeout", core.Job{Meta: named("j"), Type: "noop", Timeout: core.MaxTimeout + 1}, "timeout"},
		{"a bad retry policy", core.Job{Meta: named("j"), Type: "noop", Retry: core.Retry{Attempts: -1}}, "retry.attempts"},
	} {
		j, err := h.eng.CreateJob(h.ctx, row.job)
		if row.field != "" {
			wantInvalid(t, row.name, err, row.field)
			continue
		}
		if err != nil || j.Version != 1 || j.Account != "acc" || j.Dialect != core.Native || !id.Valid(j.UUID) || j.Created.IsZero() || !j.Created.Equal(j.Updated) {
			t.Errorf("%s: got %+v, %v", row.name, j, err)
			continue
		}
		stored := must(h.eng.Job(h.ctx, j.UUID))(h)
		wantEqual(t, row.name+": stored", stored, j)
		j.Name = "another"
		_, err = h.eng.CreateJob(h.ctx, j)
		wantKind(t, row.name+": its uuid again", err, core.Exists)
	}
	for _, uuid := range []string{"", "x", "\x00", strings.Repeat("z", 10_000)} {
		_, err := h.eng.Job(h.ctx, uuid)
		wantKind(t, fmt.Sprintf("job %.10q", uuid), err, core.NotFound)
	}
}

func TestAnnouncedTypesAreKnown(t *testing.T) {
	h := newHouse(t)
	_, err := h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "custom"})
	wantInvalid(t, "before it is announced", err, "type")
	if !hasText(err, "No SchedulerJobFactory of type[custom] found") {
		t.Errorf("got %q", core.Text(err))
	}
	h.worker(core.Worker{ID: "w2", Host: "h2", Types: []executor.Spec{{Type: "custom", Open: true}}})
	if _, err := h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "custom"}); err != nil {
		t.Errorf("after it was announced: %v", err)
	}
	h.ok(h.store.Leave(t.Context(), "w2"))
	if _, err := h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "custom"}); err != nil {
		t.Errorf("while its worker is away: %v", err)
	}
	if types := must(h.eng.Types(h.ctx))(h); len(types) != 3 {
		t.Errorf("got %d types, want 3", len(types))
	}
}

func TestUpdateJob(t *testing.T) {
	h := newHouse(t)
	j := must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "strict", Parameters: map[string]string{"text": "x"}}))(h)
	got := must(h.eng.UpdateJob(h.ctx, j.UUID, 1, func(j *core.Job) error { j.Name, j.Enabled = " new ", true; return nil }))(h)
	if got.Version != 2 || got.Name != "new" || !got.Enabled || !got.Updated.After(j.Updated) || !got.Created.Equal(j.Created) {
		t.Errorf("got %+v", got)
	}
	wantEqual(t, "stored", must(h.eng.Job(h.ctx, j.UUID))(h), got)
	_, err := h.eng.UpdateJob(h.ctx, j.UUID, 1, func(*core.Job) error { return nil })
	wantKind(t, "an old version", err, core.Stale)
	_, err = h.eng.UpdateJob(h.ctx, j.UUID, 0, func(j *core.Job) error { j.Name = ""; return nil })
	wantInvalid(t, "an empty name", err, "name")
	_, err = h.eng.UpdateJob(h.ctx, j.UUID, 0, func(j *core.Job) error { j.Parameters = nil; return nil })
	wantInvalid(t, "no parameters", err, "parameters.text")
	_, err = h.eng.UpdateJob(h.ctx, id.New(), 0, func(*core.Job) error { return nil })
	wantKind(t, "a missing job", err, core.NotFound)
	refused := core.Errorf(core.Conflict, "no")
	if _, err = h.eng.UpdateJob(h.ctx, j.UUID, 0, func(*core.Job) error { return refused }); err != error(refused) {
		t.Errorf("a change that refuses: got %v", err)
	}
	if v := must(h.eng.Job(h.ctx, j.UUID))(h).Version; v != 2 {
		t.Errorf("after refused changes: got version %d, want 2", v)
	}
}

func TestConcurrentUpdatesAllTakeEffect(t *testing.T) {
	h := newHouse(t)
	j := h.job("j")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := h.engine().UpdateJob(h.ctx, j.UUID, 0, func(j *core.Job) error {
				if j.Parameters == nil {
					j.Parameters = map[string]string{}
				}
				j.Parameters[fmt.Sprint(i)] = "set"
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := must(h.eng.Job(h.ctx, j.UUID))(h); len(got.Parameters) != 8 || got.Version != 9 {
		t.Errorf("got version %d and %v, want all 8 changes", got.Version, got.Parameters)
	}
}

func TestGroupsCheck(t *testing.T) {
	h := newHouse(t)
	for _, row := range []struct {
		name  string
		group core.Group
		field string
	}{
		{"required parameters may come from the jobs", core.Group{Meta: named("g"), Type: "strict"}, ""},
		{"a shared parameter", core.Group{Meta: named("g"), Type: "strict", Parameters: map[string]string{"count": "5"}, Timeout: time.Hour}, ""},
		{"a malformed one", core.Group{Meta: named("g"), Type: "strict", Parameters: map[string]string{"count": "x"}}, "parameters.count"},
		{"an unknown one", core.Group{Meta: named("g"), Type: "strict", Parameters: map[string]string{"other": "x"}}, "parameters.other"},
		{"no name", core.Group{Type: "noop"}, "name"},
		{"an unknown type", core.Group{Meta: named("g"), Type: "x"}, "type"},
		{"a short timeout", core.Group{Meta: named("g"), Type: "noop", Timeout: 1}, "timeout"},
	} {
		g, err := h.eng.CreateGroup(h.ctx, row.group)
		if row.field != "" {
			wantInvalid(t, row.name, err, row.field)
		} else if err != nil || g.Version != 1 || g.Account != "acc" {
			t.Errorf("%s: got %+v, %v", row.name, g, err)
		}
	}
	g, _ := h.group("g", 1)
	_, err := h.eng.UpdateGroup(h.ctx, g.UUID, 0, func(g *core.Group) error { g.Type = "strict"; return nil })
	wantKind(t, "another type while it has jobs", err, core.Conflict)
	_, err = h.eng.UpdateGroup(h.ctx, g.UUID, 9, func(*core.Group) error { return nil })
	wantKind(t, "a version it never had", err, core.Stale)
	got := must(h.eng.UpdateGroup(h.ctx, g.UUID, 1, func(g *core.Group) error { g.Enabled = false; return nil }))(h)
	if got.Version != 2 || got.Enabled || len(got.Members) != 1 {
		t.Errorf("got %+v", got)
	}
	_, err = h.eng.CreateGroup(h.ctx, core.Group{Meta: core.Meta{UUID: g.UUID, Name: "x"}, Type: "noop"})
	wantKind(t, "its uuid again", err, core.Exists)
}

func TestAJobOfAGroupKeepsItsType(t *testing.T) {
	h := newHouse(t)
	g, jobs := h.group("g", 1)
	toStrict := func(j *core.Job) error {
		j.Type, j.Parameters = "strict", map[string]string{"text": "x"}
		return nil
	}
	_, err := h.eng.UpdateJob(h.ctx, jobs[0].UUID, 0, toStrict)
	wantKind(t, "in its group", err, core.Conflict)
	must(h.eng.RemoveJobs(h.ctx, g.UUID, []string{jobs[0].UUID}))(h)
	if _, err := h.eng.UpdateJob(h.ctx, jobs[0].UUID, 0, toStrict); err != nil {
		t.Errorf("out of it: %v", err)
	}
}

func TestAddJobs(t *testing.T) {
	h := newHouse(t)
	g, jobs := h.group("g", 2)
	other, _ := h.group("h", 1)
	free := h.job("free")
	typed := must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("s"), Type: "strict", Parameters: map[string]string{"text": "x"}}))(h)
	foreign := must(h.eng.CreateJob(core.WithCaller(t.Context(), stranger), core.Job{Meta: named("f"), Type: "noop"}))(h)
	for _, row := range []struct {
		name string
		jobs []string
		want core.Kind
	}{
		{"none", nil, core.Invalid},
		{"a missing one", []string{free.UUID, id.New()}, core.NotFound},
		{"one of another type", []string{free.UUID, typed.UUID}, core.Invalid},
		{"one of another account", []string{free.UUID, foreign.UUID}, core.NotFound},
		{"one of another group", []string{free.UUID, other.Members[0].Job}, core.Conflict},
	} {
		_, err := h.eng.AddJobs(h.ctx, g.UUID, row.jobs)
		wantKind(t, row.name, err, row.want)
		if got := must(h.eng.Job(h.ctx, free.UUID))(h).Group; got != "" {
			t.Errorf("%s: the job beside it is in group %q", row.name, got)
		}
	}
	got := must(h.eng.AddJobs(h.ctx, g.UUID, []string{free.UUID, jobs[0].UUID, free.UUID}))(h)
	if len(got.Members) != 3 || got.Members[2].Job != free.UUID || got.Members[0].Job != jobs[0].UUID {
		t.Errorf("got the members %+v", got.Members)
	}
	if in := must(h.eng.Job(h.ctx, free.UUID))(h).Group; in != g.UUID {
		t.Errorf("got group %q", in)
	}
	h.reconcile()
	if n := must(h.eng.RemoveJobs(h.ctx, g.UUID, []string{free.UUID, typed.UUID}))(h); n != 1 {
		t.Errorf("removed %d, want 1", n)
	}
	if in := must(h.eng.Job(h.ctx, free.UUID))(h).Group; in != "" {
		t.Errorf("after the removal: got group %q", in)
	}
	if _, err := h.eng.AddJobs(h.ctx, other.UUID, []string{free.UUID}); err != nil {
		t.Errorf("into another group: %v", err)
	}
}

func TestGroupIsFull(t *testing.T) {
	h := newHouse(t)
	g, _ := h.group("g", 1)
	seats := make([]string, core.MaxGroupJobs-1)
	for i := range seats {
		seats[i] = id.New()
	}
	h.ok(h.store.Enroll(t.Context(), g.UUID, seats, core.MaxGroupJobs))
	one := h.job("one too many")
	_, err := h.eng.AddJobs(h.ctx, g.UUID, []string{one.UUID})
	wantKind(t, "one too many", err, core.Exhausted)
	if !hasText(err, "job group has contained 1000 job, only 0 seats left") {
		t.Errorf("got %q", core.Text(err))
	}
	if in := must(h.eng.Job(h.ctx, one.UUID))(h).Group; in != "" {
		t.Errorf("the job is claimed by %q all the same", in)
	}
}

// TestAddJobsDies lets the process die between the writes of AddJobs: what stands
// in the outboxes heals it.
func TestAddJobsDies(t *testing.T) {
	for _, call := range []string{"Enroll", "SettleMember"} {
		t.Run("before "+call, func(t *testing.T) {
			h := newHouse(t)
			g, _ := h.group("g", 0)
			j := h.job("j")
			h.faults.die(call, "SettleMember")
			_, _ = h.eng.AddJobs(h.ctx, g.UUID, []string{j.UUID})
			h.faults.die()
			h.reconcile()
			members := must(h.eng.Group(h.ctx, g.UUID))(h).Members
			claim := must(h.eng.Job(h.ctx, j.UUID))(h).Group
			if in := len(members) == 1; in != (claim == g.UUID) || in != (call == "SettleMember") {
				t.Errorf("got the members %v and the claim %q", members, claim)
			}
		})
	}
}

// TestDeletes deletes what hangs together, in good order and by a process that
// dies after its first write: both ways nothing is left hanging.
func TestDeletes(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint("dies ", dies), func(t *testing.T) {
			h := newHouse(t)
			g, jobs := h.group("g", 2)
			tr := h.trigger("t", yearly(), "")
			h.bind(tr, ofGroup(g))
			h.bind(tr, ofJob(jobs[0]))
			h.bind(tr, ofJob(jobs[1]))
			deletes := func(what string, del func(*engine.Engine, string) (bool, error), uuid string) {
				t.Helper()
				if dies {
					h.faults.die("SettleMember", "SetLink")
				}
				if ok, err := del(h.eng, uuid); !ok || err != nil {
					t.Errorf("delete the %s: got %v, %v", what, ok, err)
				}
				h.faults.die()
				if dies {
					h.reconcile()
				}
				if ok, err := del(h.eng, uuid); ok || err != nil {
					t.Errorf("delete the %s again: got %v, %v", what, ok, err)
				}
			}
			job := func(e *engine.Engine, uuid string) (bool, error) { return e.DeleteJob(h.ctx, uuid) }
			group := func(e *engine.Engine, uuid string) (bool, error) { return e.DeleteGroup(h.ctx, uuid) }
			trigger := func(e *engine.Engine, uuid string) (bool, error) { return e.DeleteTrigger(h.ctx, uuid) }

			deletes("first job", job, jobs[0].UUID)
			if m := must(h.eng.Group(h.ctx, g.UUID))(h).Members; len(m) != 1 || m[0].Job != jobs[1].UUID {
				t.Errorf("members: got %+v", m)
			}
			if b := must(h.eng.Trigger(h.ctx, tr.UUID))(h).Targets; len(b) != 2 {
				t.Errorf("targets: got %+v", b)
			}
			deletes("group", group, g.UUID)
			if in := must(h.eng.Job(h.ctx, jobs[1].UUID))(h).Group; in != "" {
				t.Errorf("the job is in group %q, which is gone", in)
			}
			if b := must(h.eng.Trigger(h.ctx, tr.UUID))(h).Targets; len(b) != 1 || b[0].UUID != jobs[1].UUID {
				t.Errorf("targets: got %+v", b)
			}
			deletes("trigger", trigger, tr.UUID)
			if links := must(h.eng.Links(h.ctx, []string{jobs[1].UUID}))(h); len(links[jobs[1].UUID]) != 0 {
				t.Errorf("links: got %v", links)
			}
			deletes("second job", job, jobs[1].UUID)
			h.reconcile()
			kept := regexp.MustCompile(`^takt:\{w\}|:(trigger|edits|edited)$|:was:`) // the fleet, tombstones, notes of edits and, for a time, of memberships
			for _, key := range must(h.rdb.Keys(t.Context(), "takt:*").Result())(h) {
				if !kept.MatchString(key) {
					t.Errorf("left behind: %s", key)
				}
			}
		})
	}
}
