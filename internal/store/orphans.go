package store

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Bounds of one look through a partition, beside sample.
const (
	actsEach  = 20  // runs looked at in a target's set of those under way
	openRuns  = 20  // runs whose steps are looked at
	openSteps = 500 // steps such a run may have
)

// A walk looks for orphans in one partition: from the targets, the latest runs
// and the dispatches it knows to what they name. It never scans the keyspace.
// Between two of its reads things move on, so what one walk finds is a suspicion
// that a second one has to confirm.
type walk struct {
	rdb      redis.UniversalClient
	root     string
	runs     []string            // the latest ones
	known    map[string]runMarks // of all runs that were named
	targets  []string
	acts     map[string][]string          // target to runs under way
	busy     map[string]map[string]string // target to job to "<run>:<step>"
	inFlight []string                     // dispatch ids
	core.Orphans
}

// runMarks are the fields of a run's row that tell where else it must stand.
type runMarks struct{ state, target, plan, steps, made, started string }

func (m runMarks) open() bool { return m.state == "p" || m.state == "r" || m.state == "c" }

// Orphans looks through one partition for marks that nothing stands behind, and
// for steps and CBT tasks that nothing will move. It costs eleven round trips at most,
// and looks at a bounded sample.
func (s *Store) Orphans(ctx context.Context, partition int) (core.Orphans, error) {
	w := &walk{
		rdb: s.rdb, root: root(partition), known: map[string]runMarks{},
		acts: map[string][]string{}, busy: map[string]map[string]string{},
	}
	for _, step := range []func(context.Context) error{w.begin, w.readRuns, w.readTargets, w.readRuns, w.checkTargets, w.checkRuns, w.checkSteps, w.checkTasks} {
		if err := step(ctx); err != nil {
			return w.Orphans, unavailable("look for orphans", err)
		}
	}
	w.Targets, w.Runs = len(w.targets), len(w.known)
	return w.Orphans, nil
}

func (w *walk) found(kind core.OrphanKind, key, of, text string) {
	w.Found = append(w.Found, core.Orphan{Kind: kind, Key: w.root + ":" + key, Of: of, Text: text})
}

// begin reads what the walk starts from.
func (w *walk) begin(ctx context.Context) error {
	pipe := w.rdb.Pipeline()
	jobs := pipe.HScan(ctx, w.root+":job", 0, "", sample)
	groups := pipe.HScan(ctx, w.root+":group", 0, "", sample)
	runs := pipe.ZRevRange(ctx, w.root+":runs", 0, sample)
	sent := pipe.ZRange(ctx, w.root+":sent", 0, sample)
	live := pipe.HScan(ctx, w.root+":live", 0, "", sample)
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for _, cmd := range []*redis.ScanCmd{jobs, groups} {
		pairs, more := cmd.Val()
		w.Stopped = w.Stopped || more != 0 || len(pairs) > 2*sample
		w.targets = append(w.targets, pairKeys(pairs, sample)...)
	}
	w.Stopped = w.Stopped || len(runs.Val()) > sample || len(sent.Val()) > sample
	w.runs = firstOf(runs.Val(), sample)
	pairs, _ := live.Val()
	w.inFlight = append(firstOf(sent.Val(), sample), pairKeys(pairs, sample)...)
	for _, run := range w.runs {
		w.known[run] = runMarks{}
	}
	for _, id := range w.inFlight {
		run, _, _ := strings.Cut(id, ":")
		w.known[run] = runMarks{}
	}
	return nil
}

func firstOf(list []string, most int) []string { return list[:min(len(list), most)] }

// readRuns reads the rows of the runs that were named and not read yet.
func (w *walk) readRuns(ctx context.Context) error {
	pipe := w.rdb.Pipeline()
	rows := map[string]*redis.SliceCmd{}
	for run, marks := range w.known {
		if marks == (runMarks{}) {
			rows[run] = pipe.HMGet(ctx, w.root+":run:"+run, "st", "tg", "pl", "n", "cur", "go")
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for run, cmd := range rows {
		text := func(i int) string { t, _ := cmd.Val()[i].(string); return t }
		w.known[run] = runMarks{state: text(0), target: text(1), plan: text(2), steps: text(3), made: text(4), started: text(5)}
	}
	return nil
}

// readTargets reads what is under way for each target, and names these runs.
func (w *walk) readTargets(ctx context.Context) error {
	for _, marks := range w.known {
		if marks.target != "" {
			w.targets = append(w.targets, marks.target)
		}
	}
	slices.Sort(w.targets)
	w.targets = slices.Compact(w.targets)
	pipe := w.rdb.Pipeline()
	acts, busy := make([]*redis.StringSliceCmd, len(w.targets)), make([]*redis.ScanCmd, len(w.targets))
	for k, target := range w.targets {
		acts[k] = pipe.ZRange(ctx, w.root+":act:"+target, 0, actsEach)
		busy[k] = pipe.HScan(ctx, w.root+":busy:"+target, 0, "", sample)
	}
	if len(w.targets) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for k, target := range w.targets {
		w.Stopped = w.Stopped || len(acts[k].Val()) > actsEach
		w.acts[target] = firstOf(acts[k].Val(), actsEach)
		w.busy[target] = map[string]string{}
		pairs, _ := busy[k].Val()
		for i := 0; i+1 < min(len(pairs), 2*sample); i += 2 {
			w.busy[target][pairs[i]] = pairs[i+1]
		}
		for _, run := range w.acts[target] {
			w.name(run)
		}
		for _, step := range w.busy[target] {
			run, _, _ := strings.Cut(step, ":")
			w.name(run)
		}
	}
	return nil
}

func (w *walk) name(run string) {
	if _, ok := w.known[run]; !ok {
		w.known[run] = runMarks{}
	}
}

// checkTargets judges what targets hold of runs and steps.
func (w *walk) checkTargets(ctx context.Context) error {
	pipe := w.rdb.Pipeline()
	type mark struct{ target, job, step string }
	rows := map[mark]*redis.StringCmd{}
	for _, target := range w.targets {
		for _, run := range w.acts[target] {
			if w.known[run].state == "" {
				w.found(core.OrphanActive, "act:"+target, run, "the run is gone")
			} else if !w.known[run].open() {
				w.found(core.OrphanActive, "act:"+target, run, "the run has ended")
			}
		}
		for job, step := range w.busy[target] {
			run, index, _ := strings.Cut(step, ":")
			rows[mark{target, job, step}] = pipe.HGet(ctx, w.root+":run:"+run, "s"+index)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for m, row := range rows {
		var st core.Step
		if row.Err() != nil {
			w.found(core.OrphanBusy, "busy:"+m.target, m.step, "job "+m.job+" counts as running, the step is gone")
		} else if decodeStep(row.Val(), &st) == nil && st.State.Ended() {
			w.found(core.OrphanBusy, "busy:"+m.target, m.step, "job "+m.job+" counts as running, the step is "+string(st.State))
		}
	}
	return nil
}

// checkRuns judges whether the runs stand where they must.
func (w *walk) checkRuns(ctx context.Context) error {
	for _, id := range w.inFlight {
		if run, _, _ := strings.Cut(id, ":"); w.known[run].state == "" {
			w.found(core.OrphanSent, "sent", id, "the run is gone")
		}
	}
	pipe := w.rdb.Pipeline()
	refs := map[string]*redis.StringCmd{}
	placed := map[string][2]*redis.FloatCmd{}
	for run, marks := range w.known {
		if marks.plan != "" && refs[marks.plan] == nil {
			refs[marks.plan] = pipe.HGet(ctx, w.root+":plan:"+marks.plan, "refs")
		}
		if marks.open() {
			placed[run] = [2]*redis.FloatCmd{pipe.ZScore(ctx, w.root+":act:"+marks.target, run), pipe.ZScore(ctx, w.root+":buf:"+marks.target, run)}
		}
	}
	for _, run := range w.runs {
		if w.known[run].state == "" {
			w.found(core.OrphanIndex, "runs", run, "the run is gone")
		}
	}
	if len(refs) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for plan, cmd := range refs {
		if n, err := strconv.Atoi(cmd.Val()); err != nil {
			w.found(core.OrphanPlan, "plan:"+plan, plan, "a run names it, it is gone")
		} else if n <= 0 {
			w.found(core.OrphanPlan, "plan:"+plan, plan, "a run names it, it counts none")
		}
	}
	for run, in := range placed {
		if isNil(in[0].Err()) && isNil(in[1].Err()) {
			w.found(core.OrphanRun, "act:"+w.known[run].target, run, "the run is under way and its target does not know")
		}
	}
	return nil
}
