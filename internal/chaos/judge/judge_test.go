package judge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/internal/chaos/witness"
	"github.com/takt-dev/takt/pkg/client"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// at gives an instant some milliseconds after noon.
func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

// sound is evidence of an installation that kept its promises: a slot's run whose
// second step lost its first worker, a run by request, and a canceled one.
func sound() Evidence {
	e := Evidence{
		Acks: []Ack{
			{Verb: Run, Key: "k1", Runs: []string{"asked"}, Again: []string{"asked"}},
			{Verb: Cancel, Key: "gone", Runs: []string{"gone"}, At: at(600)},
			{Verb: Skip, Key: "k2", Runs: []string{}, Again: []string{}},
		},
		Requested: map[string]int{"g2": 2},
		Runs: map[string]client.RunDetail{
			"slot": run("slot", "g1", step(0, "succeeded", 1600, attempt1("w-1.aa", "succeeded", 1100, 1600)),
				step(1, "succeeded", 7500, attempt1("w-2.bb", "lost", 1100, 7000), attempt1("w-1.aa", "succeeded", 7100, 7500))),
			"asked": run("asked", "g2", step(0, "succeeded", 900, attempt1("w-1.aa", "succeeded", 300, 900))),
			"gone":  run("gone", "g2", step(0, "canceled", 800, attempt1("w-1.aa", "canceled", 300, 800))),
		},
		Faults:    []Fault{{Kind: plan.KillWorker, Host: "w-2", Began: at(1200), Ended: at(4000)}},
		Survivors: []Survivor{{Name: "api-1", Before: Use{40, 50 << 20}, After: Use{42, 60 << 20}}},
		Need:      Need{Acks: 3, Executions: 5, Slots: 1, Faults: 1, Recoveries: 1},
	}
	r := e.Runs["slot"]
	r.Trigger, r.Fire = "t1", "1.1000"
	e.Runs["slot"] = r
	e.Triggers = []Trigger{{
		UUID: "t1", Name: "each second", Every: time.Second, Targets: 1, Enabled: at(500), Disabled: at(3700),
		Entries: []client.LedgerEntry{
			{ID: "1.1000", Revision: 1, From: at(1000), To: at(1000), Count: 1, Decision: "fired", Runs: []string{"slot"}},
			{ID: "1.2000", Revision: 1, From: at(2000), To: at(3000), Count: 2, Decision: "missed"},
		},
	}}
	e.Lines = slices.Concat(
		lines("slot", 0, 1, "w-1", 1101, 1599), lines("slot", 1, 1, "w-2", 1101, 0), lines("slot", 1, 2, "w-1", 7101, 7499),
		lines("asked", 0, 1, "w-1", 301, 899), lines("gone", 0, 1, "w-1", 301, 0),
	)
	return e
}

func run(id, group string, steps ...client.Step) client.RunDetail {
	r := client.RunDetail{Run: client.Run{ID: id, State: client.RunSucceeded, Target: client.Target{Kind: client.GroupTarget, UUID: group}}, Steps: steps}
	r.Counts.Total = len(steps)
	for _, s := range steps {
		switch s.State {
		case "succeeded":
			r.Counts.Succeeded++
		case "canceled":
			r.Counts.Canceled++
			r.State = client.RunCanceled
		}
	}
	return r
}

func step(index int, state string, ended int, attempts ...client.Attempt) client.Step {
	for i := range attempts {
		attempts[i].Number = i + 1
	}
	return client.Step{Index: index, State: state, Ended: at(ended), Attempts: attempts}
}

func attempt1(worker, state string, began, ended int) client.Attempt {
	return client.Attempt{Worker: worker, State: state, Started: at(began), Ended: at(ended)}
}

// lines are an execution's; done 0 is one that was never done.
func lines(run string, step, attempt int, host string, began, done int) []witness.Line {
	l := witness.Line{
		Event: witness.Began, Run: run, Step: step, Attempt: attempt, Host: host, PID: 1,
		Dispatch: fmt.Sprintf("%s:%d:%d-f", run, step, attempt), At: at(began).UnixNano(),
	}
	if done == 0 {
		return []witness.Line{l}
	}
	end := l
	end.Event, end.At = witness.Done, at(done).UnixNano()
	return []witness.Line{l, end}
}

func TestSoundEvidence(t *testing.T) {
	v := Of(sound())
	for _, x := range v.Violations {
		t.Error(x)
	}
	if v.Executions != 5 || v.Redispatch != 1 || v.Duplicates["lost by kill-worker"] != 1 || len(v.Duplicates) != 1 {
		t.Errorf("counted %d executions, %d re-dispatches, duplicates %v", v.Executions, v.Redispatch, v.Duplicates)
	}
	if r := v.Recovery; r.Counted != 1 || r.Max != 5.9 || r.P50 != 5.9 {
		t.Errorf("recovery is %+v, want one of 5.9 s", r)
	}
	if v.Slots["fired"] != 1 || v.Slots["missed"] != 2 || v.Acked[Run] != 1 {
		t.Errorf("counted the slots %v and requests %v", v.Slots, v.Acked)
	}
}

// Each row breaks one promise in sound evidence, and names the rule that has to
// find it and a part of what it says.
func TestViolations(t *testing.T) {
	for _, test := range []struct {
		name       string
		plant      func(e *Evidence)
		rule, text string
	}{
		{"acknowledged run is gone", func(e *Evidence) { delete(e.Runs, "asked") }, "lost request", "run asked"},
		{"a key gave two runs", func(e *Evidence) { e.Acks[0].Again = []string{"slot"} }, "idempotency", "k1"},
		{"more runs than requests", func(e *Evidence) { e.Requested["g2"] = 1 }, "idempotency", "1 requests made 2 runs"},
		{"canceled run succeeded", func(e *Evidence) { setRun(e, "gone", func(r *client.RunDetail) { r.State = client.RunSucceeded }) }, "cancel", "it is succeeded"},
		{"a skipped request made a run", func(e *Evidence) { e.Acks[2].Again = []string{"asked"} }, "idempotency", "k2"},
		{"a cancel was not heard", func(e *Evidence) {
			dropLines(e, "gone", 1)
			setStep(e, "gone", 0, func(s *client.Step) { s.Ended = at(30000) })
			e.Lines = append(e.Lines, lines("gone", 0, 1, "w-1", 301, 29999)...)
		}, "cancel", "worked until 12:00:29.999"},
		{"run goes on", func(e *Evidence) { setRun(e, "asked", func(r *client.RunDetail) { r.State = client.RunRunning }) }, "unfinished", "asked is running"},
		{"steps are missing", func(e *Evidence) { setRun(e, "slot", func(r *client.RunDetail) { r.Steps = r.Steps[:1] }) }, "steps", "1 of its 2"},
		{"counts do not add up", func(e *Evidence) { setRun(e, "slot", func(r *client.RunDetail) { r.Counts.Succeeded = 1 }) }, "steps", "is succeeded with"},
		{"step failed", func(e *Evidence) { setStep(e, "asked", 0, func(s *client.Step) { s.State = "failed" }) }, "steps", "is failed"},
		{"step canceled in a succeeded run", func(e *Evidence) { setStep(e, "asked", 0, func(s *client.Step) { s.State = "canceled" }) }, "steps", "the run is succeeded"},
		{"attempt after a success", func(e *Evidence) { setStep(e, "slot", 1, func(s *client.Step) { s.Attempts[0].State = "succeeded" }) }, "steps", "1 more followed"},
		{"attempt goes on", func(e *Evidence) { setStep(e, "slot", 1, func(s *client.Step) { s.Attempts[0].State = "running" }) }, "unfinished", "attempt 1"},

		{"slot without entry", func(e *Evidence) { e.Triggers[0].Entries = e.Triggers[0].Entries[:1] }, "slot missing", "12:00:02"},
		{"slot in two entries", func(e *Evidence) { e.Triggers[0].Entries[1].From, e.Triggers[0].Entries[1].Count = at(1000), 3 }, "slot twice", "12:00:01"},
		{"slot after disabling", func(e *Evidence) { e.Triggers[0].Entries[1].To, e.Triggers[0].Entries[1].Count = at(4000), 3 }, "slot outside", "12:00:04"},
		{"slot before enabling", func(e *Evidence) { e.Triggers[0].Enabled = at(1000) }, "slot outside", "12:00:01"},
		{"entry miscounts", func(e *Evidence) { e.Triggers[0].Entries[1].Count = 1 }, "ledger", "counts 1 slots"},
		{"entry undecided", func(e *Evidence) { e.Triggers[0].Entries[1].Decision = "" }, "ledger", "undecided"},
		{"entry failed", func(e *Evidence) { e.Triggers[0].Entries[1].Decision = "failed" }, "ledger", "failed"},
		{"fired without run", func(e *Evidence) { e.Triggers[0].Entries[1].Decision = "fired" }, "ledger", "with 0 runs"},
		{"slot became two runs", func(e *Evidence) { copyRun(e, "slot", "twin") }, "fired twice", "1.1000"},
		{"run of an unknown fire", func(e *Evidence) { setRun(e, "slot", func(r *client.RunDetail) { r.Fire = "1.9000" }) }, "ledger", "in no ledger"},
		{"entry names a run that is not its own", func(e *Evidence) { e.Triggers[0].Entries[0].Runs = []string{"slot", "asked"} }, "ledger", "names 2 runs"},

		{"succeeded, never executed", func(e *Evidence) { dropLines(e, "asked", 1) }, "witness", "0 seen"},
		{"succeeded, execution not done", func(e *Evidence) {
			e.Lines = e.Lines[:len(e.Lines)-2]
			e.Lines = append(e.Lines, lines("gone", 0, 1, "w-1", 301, 0)...)
		}, "witness", "no execution of its last attempt was done"},
		{"succeeded before it was done", func(e *Evidence) { setStep(e, "asked", 0, func(s *client.Step) { s.Ended = at(600) }) }, "witness", "no execution of its last attempt"},
		{"succeeded by another attempt than was executed", func(e *Evidence) { dropLines(e, "slot", 2) }, "witness", "no execution of its last attempt"},
		{"executed after its success", func(e *Evidence) { e.Lines = append(e.Lines, lines("slot", 1, 1, "w-2", 7600, 7700)...) }, "executed after its end", "began at 12:00:07.600"},
		{"executed after its cancel", func(e *Evidence) {
			dropLines(e, "gone", 1)
			e.Lines = append(e.Lines, lines("gone", 0, 1, "w-1", 900, 0)...)
		}, "executed after its end", "canceled"},
		{"one attempt executed twice", func(e *Evidence) { e.Lines = append(e.Lines, lines("asked", 0, 1, "w-1", 350, 890)...) }, "witness", "executed twice"},
		{"executed by another worker", func(e *Evidence) {
			dropLines(e, "gone", 1)
			e.Lines = append(e.Lines, lines("gone", 0, 1, "w-3", 301, 0)...)
		}, "witness", "was executed on w-3"},
		{"executed, unknown to Takt", func(e *Evidence) { e.Lines = append(e.Lines, lines("ghost", 0, 1, "w-1", 301, 0)...) }, "witness", "Takt does not know"},
		{"executed again without cause", func(e *Evidence) { setStep(e, "slot", 1, func(s *client.Step) { s.Attempts[0].State = "canceled" }) }, "witness", "which is canceled"},
		{"lost by no fault", func(e *Evidence) { e.Faults[0].Host = "w-3" }, "duplicate", "attempt 1, lost at 12:00:07.000 on w-2, which no fault struck"},
		{"released by no fault", func(e *Evidence) {
			e.Faults[0].Host = "w-3"
			setStep(e, "slot", 1, func(s *client.Step) { s.Attempts[0].State = "released" })
		}, "duplicate", "attempt 1, released"},

		{"recovery too slow", func(e *Evidence) { setStep(e, "slot", 1, func(s *client.Step) { s.Attempts[1].Started = at(11300) }) }, "recovery", "10.1s after kill-worker"},
		{"goroutines grew", func(e *Evidence) { e.Survivors[0].After.Goroutines = 90 }, "growth", "goroutines"},
		{"memory grew", func(e *Evidence) { e.Survivors[0].After.Memory = 200 << 20 }, "growth", "200 MiB"},
		{"orphan", func(e *Evidence) { e.Leftovers = []string{"sent holds x"} }, "orphan", "sent holds x"},
		{"process died", func(e *Evidence) { e.Deaths = []string{"api-1: exit status 2"} }, "death", "api-1"},
		{"too few acknowledged", func(e *Evidence) { e.Need.Acks = 4 }, "vacuous", "acknowledged requests"},
		{"too few executions", func(e *Evidence) { e.Need.Executions = 6 }, "vacuous", "executions"},
		{"too few slots", func(e *Evidence) { e.Need.Slots = 4 }, "vacuous", "slots"},
		{"too few faults", func(e *Evidence) { e.Need.Faults = 2 }, "vacuous", "faults"},
		{"no recovery", func(e *Evidence) { e.Faults[0].Host = "w-3" }, "vacuous", "recoveries"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := sound()
			test.plant(&e)
			v := Of(e)
			if !slices.ContainsFunc(v.Violations, func(x Violation) bool { return x.Rule == test.rule && strings.Contains(x.Text, test.text) }) {
				t.Errorf("found %v, want %s: …%s…", v.Violations, test.rule, test.text)
			}
		})
	}
}

func TestRecoveryIsLeftOut(t *testing.T) {
	for _, test := range []struct {
		name  string
		other Fault
		left  int
	}{
		{"redis killed meanwhile", Fault{Kind: plan.KillRedis, Began: at(3000), Ended: at(4000)}, 1},
		{"api killed shortly before", Fault{Kind: plan.KillAPI, Began: at(-4000), Ended: at(-2000)}, 1},
		{"another worker stopped meanwhile", Fault{Kind: plan.StopWorker, Host: "w-3", Began: at(2000), Ended: at(22000)}, 1},
		{"another worker back before", Fault{Kind: plan.KillWorker, Host: "w-3", Began: at(-2000), Ended: at(0)}, 0},
		{"redis killed long before", Fault{Kind: plan.KillRedis, Began: at(-9000), Ended: at(-8000)}, 0},
		{"redis killed after it", Fault{Kind: plan.KillRedis, Began: at(8000), Ended: at(9000)}, 0},
		{"nats killed meanwhile", Fault{Kind: plan.KillNATS, Began: at(2000), Ended: at(5000)}, 0},
		{"a worker cut from nats meanwhile", Fault{Kind: plan.HoleNATS, Host: "w-1", Began: at(2000), Ended: at(5000)}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := sound()
			e.Faults = append(e.Faults, test.other)
			left := 0
			for _, n := range Of(e).Recovery.LeftOut {
				left += n
			}
			if left != test.left {
				t.Errorf("%d recoveries are left out, want %d", left, test.left)
			}
		})
	}
}

func TestBlame(t *testing.T) {
	kill, full := Fault{Kind: plan.KillWorker, Host: "w-2", Began: at(1200), Ended: at(4000)}, Fault{Kind: plan.DiskFull, Began: at(900), Ended: at(6000)}
	for _, test := range []struct {
		name   string
		faults []Fault
		want   string
	}{
		{"its worker's", []Fault{full, kill}, "kill-worker"},
		{"the store's", []Fault{full}, "disk-full"},
		{"another worker's", []Fault{{Kind: plan.KillWorker, Host: "w-3", Began: at(1200), Ended: at(4000)}}, ""},
		{"one before it", []Fault{{Kind: plan.KillRedis, Began: at(100), Ended: at(600)}}, ""},
		{"its worker's, struck while it began", []Fault{{Kind: plan.StopWorker, Host: "w-2", Began: at(1000), Ended: at(21000)}}, "stop-worker"},
		{"its worker's, restarted before it", []Fault{{Kind: plan.KillWorker, Host: "w-2", Began: at(100), Ended: at(1150)}}, ""},
	} {
		if got := blame(test.faults, attempt1("w-2.bb", "lost", 1100, 7000)); got != test.want {
			t.Errorf("%s: blamed %q, want %q", test.name, got, test.want)
		}
	}
}

func TestClockAhead(t *testing.T) {
	e := sound()
	e.Triggers[0].Entries[1].To, e.Triggers[0].Entries[1].Count = at(5000), 4
	e.Triggers[0].Ahead = 3 * time.Second
	for _, x := range Of(e).Violations {
		t.Errorf("slots that a clock 3 s ahead published early: %s", x)
	}
}

func setRun(e *Evidence, id string, change func(*client.RunDetail)) {
	r := e.Runs[id]
	change(&r)
	e.Runs[id] = r
}

func setStep(e *Evidence, id string, index int, change func(*client.Step)) {
	setRun(e, id, func(r *client.RunDetail) { change(&r.Steps[index]) })
}

func copyRun(e *Evidence, id, as string) {
	r := e.Runs[id]
	r.ID = as
	e.Runs[as] = r
}

// dropLines removes what the witness saw of one attempt of a run's steps.
func dropLines(e *Evidence, run string, attempt int) {
	e.Lines = slices.DeleteFunc(e.Lines, func(l witness.Line) bool { return l.Run == run && l.Attempt == attempt })
}
