package engine_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// What was stored before names were judged is read as it is and can be changed, as long as
// its name stays or becomes one that may be given.
func TestNamesFromBeforeTheRule(t *testing.T) {
	h := newHouse(t)
	const odd = "a\u202egpj\tb"
	job := must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "noop"}))(h)
	group := must(h.eng.CreateGroup(h.ctx, core.Group{Meta: named("g"), Type: "noop"}))(h)
	trigger := must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("t"), Schedule: everySecond()}))(h)
	task := must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("c"), Machines: h.machines(1)}))(h)
	for _, row := range []struct {
		noun   string
		stored func() error
		read   func() (core.Meta, error)
		change func(change func(*core.Meta)) error
	}{
		{
			"job", func() error { job.Name = odd; return h.store.UpdateJob(h.ctx, job) },
			func() (core.Meta, error) { j, err := h.eng.Job(h.ctx, job.UUID); return j.Meta, err },
			func(change func(*core.Meta)) error {
				_, err := h.eng.UpdateJob(h.ctx, job.UUID, 0, func(j *core.Job) error { change(&j.Meta); return nil })
				return err
			},
		},
		{
			"job group", func() error { group.Name = odd; return h.store.UpdateGroup(h.ctx, group) },
			func() (core.Meta, error) { g, err := h.eng.Group(h.ctx, group.UUID); return g.Meta, err },
			func(change func(*core.Meta)) error {
				_, err := h.eng.UpdateGroup(h.ctx, group.UUID, 0, func(g *core.Group) error { change(&g.Meta); return nil })
				return err
			},
		},
		{
			"trigger", func() error {
				trigger.Name = odd
				return h.store.PutTrigger(h.ctx, trigger, time.Time{}, false, nil, nil)
			},
			func() (core.Meta, error) { tr, err := h.eng.Trigger(h.ctx, trigger.UUID); return tr.Meta, err },
			func(change func(*core.Meta)) error {
				_, err := h.eng.UpdateTrigger(h.ctx, trigger.UUID, 0, func(tr *core.Trigger) error { change(&tr.Meta); return nil })
				return err
			},
		},
		{
			"CBT task", func() error { task.Name = odd; return h.store.UpdateCBT(h.ctx, task) },
			func() (core.Meta, error) { c, err := h.eng.CBTTask(h.ctx, task.UUID); return c.Meta, err },
			func(change func(*core.Meta)) error {
				_, err := h.eng.UpdateCBTTask(h.ctx, task.UUID, 0, func(c *core.CBTTask) error { change(&c.Meta); return nil })
				return err
			},
		},
	} {
		if err := row.stored(); err != nil {
			t.Fatalf("%s: store it as before: %v", row.noun, err)
		}
		if m, err := row.read(); err != nil || m.Name != odd {
			t.Errorf("%s: read %q, %v; want %q", row.noun, m.Name, err, odd)
		}
		if err := row.change(func(m *core.Meta) { m.Description = "changed" }); err != nil {
			t.Errorf("%s: change of its description: %v", row.noun, err)
		}
		wantInvalid(t, row.noun+": another such name", row.change(func(m *core.Meta) { m.Name = "x\x00y" }), "name")
		if err := row.change(func(m *core.Meta) { m.Name = "plain" }); err != nil {
			t.Errorf("%s: a name that may be given: %v", row.noun, err)
		}
	}
}
