package store_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// A world is a store on a Redis of the test's own. It can write down all that
// stands in Redis, so that a test says what a script changed and, by the same
// token, that it changed nothing else.
type world struct {
	*testing.T
	store *store.Store
	rdb   *redis.Client
	names map[string]string // id to the name it has in the test's texts
}

func newWorld(t *testing.T, o store.Options) *world {
	t.Helper()
	t.Parallel()
	rdb := testenv.Redis(t).Client(t, testenv.SameSlot(t))
	return &world{T: t, store: store.New(rdb, o), rdb: rdb, names: map[string]string{}}
}

// must ends the test on an error and passes the value on.
func must[V any](v V, err error) func(*world) V {
	return func(w *world) V {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
		return v
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// call names an id in the texts of lines and changes.
func (w *world) call(id, name string) string {
	w.names[id] = name
	return id
}

func (w *world) now() time.Time { return must(w.store.Now(w.Context()))(w) }

var (
	fenceText = regexp.MustCompile(`(\d+-|\||:)[0-9a-f]{16}\b`)
	timeText  = regexp.MustCompile(`\b\d{13}\b`)
	planText  = regexp.MustCompile(`plan(:|\|)[0-9a-f]{32}`)
)

// lines writes down each element of each key as one line, sorted. Instants
// become T, the random part of fences F, plan hashes P.
func (w *world) lines() []string {
	w.Helper()
	replace := make([]string, 0, 2*len(w.names))
	for id, name := range w.names {
		replace = append(replace, id, name)
	}
	named := strings.NewReplacer(replace...)
	var out []string
	for _, key := range w.keys() {
		short := key[strings.Index(key, "}")+1:]
		short = strings.TrimPrefix(short, ":")
		if short == "last" {
			continue
		}
		for _, element := range w.elements(key) {
			line := named.Replace(short + " " + element)
			line = fenceText.ReplaceAllString(line, "${1}F")
			line = timeText.ReplaceAllString(line, "T")
			out = append(out, planText.ReplaceAllString(line, "plan${1}P"))
		}
	}
	slices.Sort(out)
	return out
}

// keys gives all keys but the counters of edits, which only ever grow.
func (w *world) keys() []string {
	w.Helper()
	keys := must(w.rdb.Keys(w.Context(), "*").Result())(w)
	keys = slices.DeleteFunc(keys, func(k string) bool { return strings.HasSuffix(k, ":edits") })
	slices.Sort(keys)
	return keys
}

func (w *world) elements(key string) (out []string) {
	w.Helper()
	ctx := w.Context()
	switch kind := w.rdb.Type(ctx, key).Val(); kind {
	case "hash":
		for f, v := range w.rdb.HGetAll(ctx, key).Val() {
			switch {
			case f == "m" || f == "pl" || f == "ret":
				v = "…"
			case strings.Contains(key, ":plan:") && f != "refs":
				v, _, _ = strings.Cut(v, "|")
			}
			out = append(out, strings.TrimSpace(f+" "+v))
		}
	case "zset":
		for _, z := range w.rdb.ZRangeWithScores(ctx, key, 0, -1).Val() {
			member, _ := z.Member.(string)
			out = append(out, member)
		}
	case "set":
		out = w.rdb.SMembers(ctx, key).Val()
	case "string":
		out = []string{w.rdb.Get(ctx, key).Val()}
	case "stream":
		out = []string{fmt.Sprint("stream of ", w.rdb.XLen(ctx, key).Val())}
	default:
		w.Fatalf("key %s has the type %s", key, kind)
	}
	return out
}

// changes runs do and gives the lines that went ("- …") and came ("+ …").
func (w *world) changes(do func()) []string {
	w.Helper()
	before := w.lines()
	do()
	after := w.lines()
	count := map[string]int{}
	for _, l := range before {
		count["- "+l]++
	}
	for _, l := range after {
		if count["- "+l] > 0 {
			count["- "+l]--
		} else {
			count["+ "+l]++
		}
	}
	var out []string
	for line, n := range count {
		out = append(out, slices.Repeat([]string{line}, n)...)
	}
	return out
}

// wantChanges runs do, checks what it changed and then all invariants.
func (w *world) wantChanges(what string, do func(), want ...string) {
	w.Helper()
	got := w.changes(do)
	slices.Sort(got)
	slices.Sort(want)
	wantEqual(w.T, what+": changes", got, want)
	w.check()
}

// group makes a new target, which needs no definition to have runs.
func (w *world) group(name string) core.Target {
	return core.Target{Kind: core.GroupTarget, UUID: w.call(id.New(), name)}
}

func queued(int) core.Route { return core.Route{Queue: "default"} }
func parked(int) core.Route { return core.Route{Wait: "waits for a worker"} }

// admission asks for a run of some steps, all of them routed alike.
func (w *world) admission(name string, target core.Target, steps int, policy core.OverlapPolicy, route func(int) core.Route) core.Admission {
	a := core.Admission{
		Run:  core.Run{Target: target, Request: "request of " + name, Name: name, Account: "acc", Type: "noop", Dialect: core.Native},
		Plan: plan(steps), Overlap: core.Overlap{Policy: policy}, Remember: time.Hour,
	}
	for i := range min(steps, core.Chunk) {
		a.Routes = append(a.Routes, route(i))
	}
	a.Run.ID = w.call(w.store.NewRunID(target.UUID, time.Now(), a.Run.Request), name)
	return a
}

func plan(steps int) []core.PlannedStep {
	out := make([]core.PlannedStep, steps)
	for i := range out {
		out[i] = core.PlannedStep{Job: fmt.Sprint("job", i), Name: fmt.Sprint("job ", i), Type: "noop", Timeout: time.Minute}
	}
	return out
}

// start admits a run that must start, and gives its id and first dispatches.
func (w *world) start(name string, target core.Target, steps int, policy core.OverlapPolicy) (string, []core.Dispatch) {
	w.Helper()
	a := must(w.store.Admit(w.Context(), w.admission(name, target, steps, policy, queued)))(w)
	if a.Word != core.AdmitStarted {
		w.Fatalf("run %s: got %s (%s), want started", name, a.Word, a.Reason)
	}
	return a.Run, a.Sends
}

// expand makes all steps of a run that are still to be made.
func (w *world) expand(run string) (sends []core.Dispatch) {
	w.Helper()
	p, made, started, err := w.store.Plan(w.Context(), run)
	w.ok(err)
	for started && made < len(p) {
		routes := make([]core.Route, min(core.Chunk, len(p)-made))
		for i := range routes {
			routes[i] = queued(i)
		}
		eff := must(w.store.Expand(w.Context(), run, p, made, routes))(w)
		sends = append(sends, eff.Sends...)
		made += len(routes)
	}
	return sends
}

func (w *world) begin(d core.Dispatch, worker string) core.Begun {
	w.Helper()
	return must(w.store.Begin(w.Context(), d, worker))(w)
}

var success = core.Outcome{State: core.AttemptSucceeded, Retry: -1}

func failure(retry time.Duration) core.Outcome {
	return core.Outcome{State: core.AttemptFailed, ExitCode: 3, Reason: "it broke", Retry: retry}
}

func (w *world) finish(d core.Dispatch, worker string, o core.Outcome) core.Finished {
	w.Helper()
	return must(w.store.Finish(w.Context(), d, worker, o))(w)
}

func (w *world) run(run string) core.Run {
	w.Helper()
	return must(w.store.Run(w.Context(), run))(w)
}

func (w *world) steps(run string) []core.Step {
	w.Helper()
	return must(w.store.Steps(w.Context(), run))(w)
}

// move moves one step.
func (w *world) move(why core.MoveReason, d core.Dispatch, worker string, r core.Route) core.Effects {
	w.Helper()
	return must(w.store.Move(w.Context(), why, []core.Move{{Dispatch: d, Worker: worker, Route: r}}))(w)
}

// drive carries a run to its end: every step succeeds, whatever state it is in.
func (w *world) drive(run string) core.Run {
	w.Helper()
	for range 100 {
		w.expand(run)
		r := w.run(run)
		if r.State.Ended() {
			return r
		}
		for _, s := range w.steps(run) {
			w.driveStep(core.Dispatch{Run: run, Step: s.Index, Fence: s.Fence}, s)
		}
	}
	w.Fatalf("run %s cannot be driven to an end: %+v", w.names[run], w.run(run))
	return core.Run{}
}

func (w *world) driveStep(d core.Dispatch, s core.Step) {
	w.Helper()
	switch s.State {
	case core.StepWaiting:
		for _, again := range w.move(core.MoveWaiting, d, "", queued(0)).Sends {
			w.begin(again, "driver")
			w.finish(again, "driver", success)
		}
	case core.StepDispatched:
		w.begin(d, "driver")
		w.finish(d, "driver", success)
	case core.StepRunning, core.StepCanceling:
		w.finish(d, s.Worker, success)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func zAt(ms int64, member string) redis.Z { return redis.Z{Score: float64(ms), Member: member} }
