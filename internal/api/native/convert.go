package native

import (
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// Between the wire and core. Nothing is checked here: the engine does that.

func metaOf(m core.Meta) Meta {
	return Meta{UUID: m.UUID, Account: m.Account, Dialect: m.Dialect, Version: m.Version, Created: m.Created, Updated: m.Updated}
}

// enabled is true where the client said nothing.
func enabled(given *bool) bool { return given == nil || *given }

func (m masker) job(j core.Job) Job {
	fields := jobFields(j)
	fields.Parameters = m.show(j.Type, j.Parameters)
	return Job{Meta: metaOf(j.Meta), Type: j.Type, JobFields: fields, Group: j.Group}
}

// jobFields gives the fields with their secrets: for a patch, not for the wire.
func jobFields(j core.Job) JobFields {
	return JobFields{
		Name: j.Name, Description: j.Description, Parameters: j.Parameters, Target: j.Target, Enabled: &j.Enabled,
		Retry: retryOf(j.Retry), Timeout: Duration(j.Timeout), Priority: j.Priority,
	}
}

// set puts the fields into j.
func (f JobFields) set(j *core.Job) {
	j.Name, j.Description, j.Parameters, j.Target = f.Name, f.Description, f.Parameters, f.Target
	j.Enabled, j.Retry, j.Timeout, j.Priority = enabled(f.Enabled), f.Retry.core(), time.Duration(f.Timeout), f.Priority
}

func retryOf(r core.Retry) Retry {
	return Retry{Attempts: r.Attempts, Backoff: Duration(r.Backoff), Factor: r.Factor, Max: Duration(r.Max), Jitter: r.Jitter}
}

func (r Retry) core() core.Retry {
	return core.Retry{Attempts: r.Attempts, Backoff: time.Duration(r.Backoff), Factor: r.Factor, Max: time.Duration(r.Max), Jitter: r.Jitter}
}

func (m masker) group(g core.Group) Group {
	fields := groupFields(g)
	fields.Parameters = m.show(g.Type, g.Parameters)
	members := each(g.Members, func(x core.Member) Member { return Member{Job: x.Job, Added: x.Added} })
	return Group{Meta: metaOf(g.Meta), Type: g.Type, GroupFields: fields, Jobs: members}
}

// groupFields gives the fields with their secrets: for a patch, not for the wire.
func groupFields(g core.Group) GroupFields {
	return GroupFields{Name: g.Name, Description: g.Description, Parameters: g.Parameters, Enabled: &g.Enabled, Timeout: Duration(g.Timeout)}
}

// set puts the fields into g.
func (f GroupFields) set(g *core.Group) {
	g.Name, g.Description, g.Parameters = f.Name, f.Description, f.Parameters
	g.Enabled, g.Timeout = enabled(f.Enabled), time.Duration(f.Timeout)
}

func triggerOf(t core.Trigger) Trigger {
	return Trigger{
		Meta: metaOf(t.Meta), TriggerFields: triggerFields(t), Targets: each(t.Targets, bindingOf), Revision: t.Revision, Next: t.Next,
	}
}

func triggerFields(t core.Trigger) TriggerFields {
	return TriggerFields{
		Name: t.Name, Description: t.Description, Schedule: scheduleOf(t.Schedule), Enabled: &t.Enabled,
		Misfire: Misfire{
			Policy: t.Misfire.Policy, Threshold: Duration(t.Misfire.Threshold),
			CatchupWindow: Duration(t.Misfire.CatchupWindow), CatchupMax: t.Misfire.CatchupMax,
		},
		Overlap: Overlap{Policy: t.Overlap.Policy, Limit: t.Overlap.Limit},
	}
}

// set puts the fields into t.
func (f TriggerFields) set(t *core.Trigger) {
	t.Name, t.Description, t.Schedule, t.Enabled = f.Name, f.Description, f.Schedule.spec(), enabled(f.Enabled)
	t.Misfire, t.Overlap = f.Misfire.core(), f.Overlap.core()
}

func (m Misfire) core() schedule.Misfire {
	return schedule.Misfire{
		Policy: m.Policy, Threshold: time.Duration(m.Threshold), CatchupWindow: time.Duration(m.CatchupWindow), CatchupMax: m.CatchupMax,
	}
}

func (o Overlap) core() core.Overlap { return core.Overlap{Policy: o.Policy, Limit: o.Limit} }

func scheduleOf(s schedule.Spec) Schedule {
	return Schedule{
		Kind: s.Kind, Dialect: s.Dialect, Expression: s.Expression, Zone: s.Zone, Gap: s.Gap, Overlap: s.Overlap,
		Interval: Duration(s.Interval), Start: s.Start, End: s.End, Repeat: s.Repeat,
	}
}

// spec gives the times in UTC: equal instants must be equal values, or an edit
// that changes nothing would count as one.
func (s Schedule) spec() schedule.Spec {
	return schedule.Spec{
		Kind: s.Kind, Dialect: s.Dialect, Expression: s.Expression, Zone: s.Zone, Gap: s.Gap, Overlap: s.Overlap,
		Interval: time.Duration(s.Interval), Start: s.Start.UTC(), End: s.End.UTC(), Repeat: s.Repeat,
	}
}

func bindingOf(b core.Binding) Binding {
	return Binding{Kind: b.Kind, UUID: b.UUID, Ref: b.Ref, Added: b.Added}
}

func entryOf(e core.LedgerEntry) LedgerEntry {
	return LedgerEntry{
		ID: e.ID, Revision: e.Revision, Manual: e.Manual, From: e.From, To: e.To, Count: e.Count,
		Published: e.Published, Decided: e.Decided, Decision: e.Decision, Reason: e.Reason,
		Runs: append([]string{}, e.Runs...), Targets: e.Only, Lateness: Duration(e.Lateness),
	}
}

func runOf(r core.Run) Run {
	out := Run{
		ID: r.ID, Account: r.Account, Dialect: r.Dialect, Target: Target{Kind: r.Target.Kind, UUID: r.Target.UUID},
		Name: r.Name, Type: r.Type, Trigger: r.Trigger, State: r.State, Reason: r.Reason, RetryOf: r.RetryOf,
		Created: r.Created, Started: r.Started, Ended: r.Ended, Deadline: r.Deadline,
		Counts: StepCounts{
			Total: r.Counts.Total, Succeeded: r.Counts.Succeeded, Failed: r.Counts.Failed,
			Canceled: r.Counts.Canceled, TimedOut: r.Counts.TimedOut, Skipped: r.Counts.Skipped,
		},
	}
	if !r.Fire.IsZero() {
		out.Fire, out.Slot = r.Fire.Entry(), r.Fire.Slot
	}
	return out
}

func (m masker) step(s core.Step) Step {
	return Step{
		Index: s.Index, Job: s.Job, Name: s.Name, Type: s.Type, Parameters: m.show(s.Type, s.Parameters), Target: s.Target,
		Timeout: Duration(s.Timeout), Retry: retryOf(s.Retry), Priority: s.Priority, State: s.State, Reason: s.Reason,
		Queue: s.Queue, Worker: s.Worker, Failures: s.Failures, Lost: s.Lost, Started: s.Started, Ended: s.Ended,
		Progress: Progress(s.Progress), Attempts: each(s.Attempts, attemptOf),
	}
}

func attemptOf(a core.Attempt) Attempt {
	out := Attempt{
		Number: a.Number, State: a.State, Worker: a.Worker, Started: a.Started, Ended: a.Ended,
		Error: a.Error, Output: a.Output,
	}
	if code, ok := a.Exited(); ok {
		out.ExitCode = &code
	}
	return out
}
