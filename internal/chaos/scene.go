package main

import (
	"context"
	"fmt"
	"time"

	"github.com/takt-dev/takt/internal/chaos/witness"
	"github.com/takt-dev/takt/pkg/client"
)

// jobs of each group.
const jobs = 20

// The jobs of the long runs, which nobody waits for.
const (
	longJobs = 6
	longWork = "25s"
)

// A scene is what the load is made on: groups that triggers fire, and groups that
// are run by request.
type scene struct {
	triggers []*cue
	byHand   *cue     // a trigger that fires by request only
	groups   []string // run by request
	skipping string   // a group run by request under overlap skip
	long     string   // a group whose runs last until they are canceled
}

// A cue is a trigger with what the judge has to know of it.
type cue struct {
	trigger           client.Trigger
	every             time.Duration
	spellings         [2]string // two expressions with the same slots
	enabled, disabled time.Time
}

// cues are the triggers of the load, about 50 steps a second together. Their
// policies differ; thresholds are short, so that an outage ends in merged and
// missed slots rather than in a flood.
var cues = []struct {
	name      string
	every     time.Duration
	spellings [2]string
	overlap   string
	misfire   client.Misfire
}{
	{"each second, overlaps allowed", time.Second, [2]string{"* * * * * ?", "0/1 * * * * ?"}, "allow",
		client.Misfire{Policy: "fire_once_now", Threshold: client.Duration(10 * time.Second)}},
	{"each second, running steps skipped", time.Second, [2]string{"* * * * * ?", "0-59 * * * * ?"}, "skip_steps",
		client.Misfire{Policy: "fire_all", Threshold: client.Duration(5 * time.Second), CatchupMax: 5}},
	{"each other second, one buffered", 2 * time.Second, [2]string{"0/2 * * * * ?", "0-58/2 * * * * ?"}, "buffer_one",
		client.Misfire{Policy: "skip", Threshold: client.Duration(10 * time.Second)}},
}

// set makes groups, triggers and their bindings; nothing fires yet.
func set(ctx context.Context, c *client.Client) (*scene, error) {
	s := &scene{}
	for _, q := range cues {
		group, err := newGroup(ctx, c, q.name)
		if err != nil {
			return nil, err
		}
		made, err := newTrigger(ctx, c, q.name, q.spellings[0], q.overlap, q.misfire, group)
		if err != nil {
			return nil, err
		}
		s.triggers = append(s.triggers, &cue{trigger: made, every: q.every, spellings: q.spellings})
	}
	group, err := newGroup(ctx, c, "by hand")
	if err != nil {
		return nil, err
	}
	yearly, err := newTrigger(ctx, c, "by hand", "0 0 3 29 2 ?", "allow", client.Misfire{}, group)
	if err != nil {
		return nil, err
	}
	s.byHand = &cue{trigger: yearly}
	for _, name := range []string{"by request", "by request too"} {
		group, err := newGroup(ctx, c, name)
		if err != nil {
			return nil, err
		}
		s.groups = append(s.groups, group)
	}
	if s.skipping, err = newGroup(ctx, c, "by request, one at a time"); err != nil {
		return nil, err
	}
	s.long, err = makeGroup(ctx, c, "until canceled", longJobs, map[string]string{witness.Work: longWork})
	return s, err
}

func newGroup(ctx context.Context, c *client.Client, name string) (string, error) {
	return makeGroup(ctx, c, name, jobs, nil)
}

func makeGroup(ctx context.Context, c *client.Client, name string, jobs int, parameters map[string]string) (string, error) {
	g, err := c.CreateGroup(ctx, client.NewGroup{Type: witness.JobType, GroupFields: client.GroupFields{Name: name}})
	if err != nil {
		return "", fmt.Errorf("make group: %w", err)
	}
	var uuids []string
	for n := range jobs {
		j, err := c.CreateJob(ctx, client.NewJob{Type: witness.JobType, JobFields: client.JobFields{
			Name: fmt.Sprintf("%s %d", name, n+1), Parameters: parameters, Timeout: client.Duration(2 * time.Minute),
		}})
		if err != nil {
			return "", fmt.Errorf("make job: %w", err)
		}
		uuids = append(uuids, j.UUID)
	}
	if _, err := c.AddJobs(ctx, g.UUID, uuids...); err != nil {
		return "", fmt.Errorf("add jobs: %w", err)
	}
	return g.UUID, nil
}

func newTrigger(ctx context.Context, c *client.Client, name, expression, overlap string, m client.Misfire, group string) (client.Trigger, error) {
	off := false
	t, err := c.CreateTrigger(ctx, client.NewTrigger{TriggerFields: client.TriggerFields{
		Name: name, Schedule: quartz(expression), Misfire: m, Overlap: client.Overlap{Policy: overlap}, Enabled: &off,
	}})
	if err != nil {
		return t, fmt.Errorf("make trigger: %w", err)
	}
	if _, err := c.Bind(ctx, t.UUID, client.NewBinding{Kind: client.GroupTarget, UUID: group}); err != nil {
		return t, fmt.Errorf("bind trigger: %w", err)
	}
	return t, nil
}

func quartz(expression string) client.Schedule {
	return client.Schedule{Kind: "cron", Dialect: "quartz", Expression: expression}
}

// enable begins, or ends, the slots of all triggers that have any.
func (s *scene) enable(ctx context.Context, c *client.Client, on bool) error {
	for _, q := range s.triggers {
		t, err := c.PatchTrigger(ctx, q.trigger.UUID, 0, map[string]any{"enabled": on})
		if err != nil {
			return fmt.Errorf("enable or disable trigger: %w", err)
		}
		if on {
			q.enabled = t.Updated
		} else {
			q.disabled = t.Updated
		}
	}
	return nil
}
