package store_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A picture is all that stands in one run partition, for the checks below.
type picture struct {
	w    *world
	root string

	runs                            map[string]map[string]string // by id
	steps                           map[string]stepRow           // by "<run>:<step>"
	waiting, expectWaiting          int                          // see lib.lua
	sent, parked, live              map[string]bool
	timers, outbox                  map[string]bool
	act, buf, index                 map[string]map[string]bool // by target
	byTrigger                       map[string]map[string]bool
	busy                            map[string]string // "<target> <job>" to "<run>:<step>"
	refs                            map[string]int    // by plan
	tasks                           map[string]map[string]string
	taskSet                         map[string]bool
	expectTimers, expectOutbox      map[string]bool
	expectSent, expectLive, expectP map[string]bool
}

type stepRow struct {
	state, counter, fence, worker string
	attempts                      int
	together                      bool // it has no row: a stretch tells of it
}

// check tests that what stands in the run partitions agrees with itself: every
// index, set, timer and outbox entry follows from the rows of runs and steps.
func (w *world) check() {
	w.Helper()
	roots := map[string]bool{}
	for _, key := range w.keys() {
		if strings.HasPrefix(key, "takt:{p:") {
			roots[key[:strings.Index(key, "}")+1]] = true
		}
	}
	for root := range roots {
		p := w.picture(root)
		for run, h := range p.runs {
			p.checkRun(run, h)
		}
		p.checkTasks()
		p.checkSets()
	}
}

func (w *world) picture(root string) *picture {
	ctx := w.Context()
	p := &picture{
		w: w, root: root, runs: map[string]map[string]string{}, steps: map[string]stepRow{},
		act: map[string]map[string]bool{}, buf: map[string]map[string]bool{}, index: map[string]map[string]bool{}, byTrigger: map[string]map[string]bool{},
		busy: map[string]string{}, refs: map[string]int{}, tasks: map[string]map[string]string{},
		expectTimers: map[string]bool{}, expectOutbox: map[string]bool{}, expectSent: map[string]bool{}, expectLive: map[string]bool{}, expectP: map[string]bool{},
	}
	zset := func(key string) map[string]bool {
		out := map[string]bool{}
		for _, m := range w.rdb.ZRange(ctx, key, 0, -1).Val() {
			out[m] = true
		}
		return out
	}
	p.sent, p.parked, p.timers, p.outbox = zset(root+":sent"), zset(root+":parked"), zset(root+":timers"), zset(root+":outbox")
	p.waiting, _ = w.rdb.Get(ctx, root+":waiting").Int() // none: 0
	p.taskSet = map[string]bool{}
	for _, task := range w.rdb.SMembers(ctx, root+":cbts").Val() {
		p.taskSet[task] = true
	}
	p.live = map[string]bool{}
	for d, row := range w.rdb.HGetAll(ctx, root+":live").Val() {
		worker, _, _ := strings.Cut(row, "|")
		p.live[d+" "+worker] = true
	}
	for _, key := range w.keys() {
		rest, ok := strings.CutPrefix(key, root+":")
		kind, name, _ := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		switch {
		case kind == "run":
			p.addRun(name, w.rdb.HGetAll(ctx, key).Val())
		case kind == "act":
			p.act[name] = zset(key)
		case kind == "buf":
			p.buf[name] = zset(key)
		case kind == "runs" && strings.HasPrefix(name, "by:"):
			p.byTrigger[name[3:]] = zset(key)
		case kind == "runs" && name != "":
			p.index[name] = zset(key)
		case kind == "busy":
			for job, step := range w.rdb.HGetAll(ctx, key).Val() {
				p.busy[name+" "+job] = step
			}
		case kind == "cbt":
			p.tasks[name] = w.rdb.HGetAll(ctx, key).Val()
		case kind == "plan":
			p.refs[name], _ = strconv.Atoi(w.rdb.HGet(ctx, key, "refs").Val())
		}
	}
	return p
}

func (p *picture) addRun(run string, h map[string]string) {
	p.runs[run] = h
	p.addStretches(run, h)
	for field, row := range h {
		i, err := strconv.Atoi(strings.TrimPrefix(field, "s"))
		if !strings.HasPrefix(field, "s") || err != nil {
			continue
		}
		f := strings.SplitN(row, "|", 12)
		if len(f) != 12 {
			p.w.Errorf("run %s step %d: broken row %q", run, i, row)
			continue
		}
		n, _ := strconv.Atoi(f[3])
		p.steps[fmt.Sprint(run, ":", i)] = stepRow{state: f[0], counter: f[1], fence: f[1] + "-" + f[2], worker: f[7], attempts: n}
	}
}

// addStretches notes the steps that have no field of their own: that a line of the field
// together tells of.
func (p *picture) addStretches(run string, h map[string]string) {
	left, stretches := 0, 0
	for line := range strings.Lines(h["together"]) {
		var from, to int
		span, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		random, queue, ok := strings.Cut(rest, ":")
		if _, err := fmt.Sscanf(span, "%d-%d", &from, &to); err != nil || !ok || queue == "" {
			p.w.Errorf("run %s: broken stretch %q", run, line)
		}
		for i := from; i < to; i++ {
			if h["s"+strconv.Itoa(i)] == "" {
				p.steps[fmt.Sprint(run, ":", i)] = stepRow{state: "d", counter: "1", fence: "1-" + random, together: true}
				left++
			}
		}
		stretches++
		p.expectSent[fmt.Sprintf("%s:%d-%d:1-%s", run, from, to, random)] = true
	}
	if got, _ := strconv.Atoi(h["left"]); got != left || (h["left"] == "") != (h["together"] == "") || (left == 0) != (stretches == 0) {
		p.w.Errorf("run %s: %q steps are left of %d stretches, its rows say %d", run, h["left"], stretches, left)
	}
	p.expectWaiting += left - stretches
}

func (p *picture) errorf(format string, args ...any) {
	p.w.Helper()
	text := fmt.Sprintf(format, args...)
	for id, name := range p.w.names {
		text = strings.ReplaceAll(text, id, name)
	}
	p.w.Error("invariant: " + text)
}

// checkRun checks one run's own fields and notes what must stand elsewhere.
func (p *picture) checkRun(run string, h map[string]string) {
	p.w.Helper()
	number := func(f string) int { n, _ := strconv.Atoi(h[f]); return n }
	ended := strings.Contains("sfxt", h["st"])
	total, made := number("n"), number("cur")
	unmade := 0
	switch {
	case h["st"] == "c":
		made = number("made")
		unmade = total - made
	case ended:
		made = 0
		for made < total && p.steps[fmt.Sprint(run, ":", made)].state != "" {
			made++
		}
		unmade = total - made
	}
	counts := map[string]int{"x": unmade}
	for i := range total {
		s := p.steps[fmt.Sprint(run, ":", i)]
		if (s.state != "") != (i < made) {
			p.errorf("run %s: step %d has the state %q but %d steps are made", run, i, s.state, made)
		}
		counts[s.state]++
		p.expectStep(run, i, h, s)
	}
	for _, letter := range []string{"s", "f", "x", "t", "k"} {
		if got, want := number("c"+letter), counts[letter]; got != want {
			p.errorf("run %s (%s): counter c%s is %d, its rows say %d", run, h["st"], letter, got, want)
		}
	}
	open := total - counts["s"] - counts["f"] - counts["x"] - counts["t"] - counts["k"]
	if ended != (open == 0) {
		p.errorf("run %s has the state %s with %d open steps", run, h["st"], open)
	}
	if ended != (h["t1"] != "") {
		p.errorf("run %s has the state %s and the end %q", run, h["st"], h["t1"])
	}
	p.expectRun(run, h, ended, made, total)
}

func (p *picture) expectRun(run string, h map[string]string, ended bool, made, total int) {
	p.w.Helper()
	if ended {
		p.expectTimers["forget|"+run] = true
		for _, f := range []string{"cur", "end", "go", "stop", "made"} {
			if v, left := h[f]; left {
				p.errorf("run %s has ended and still has the field %s = %q", run, f, v)
			}
		}
	} else if timer := "deadline|" + run; h["dl"] != "" {
		p.expectTimers[timer] = h["st"] != "c" || p.timers[timer] // a deadline that was acted on is gone
	}
	_, started := h["go"]
	if !ended && h["st"] != "c" && started && made < total {
		p.expectOutbox["expand|"+run] = true
	}
	if stop, _ := strconv.Atoi(h["stop"]); h["st"] == "c" && p.outbox["cancel|"+run] && stop < made {
		p.expectOutbox["cancel|"+run] = true
	}
	target := h["tg"]
	if got, want := p.act[target][run], !ended && started; got != want {
		p.errorf("run %s (%s): under way is %v, want %v", run, h["st"], got, want)
	}
	if got, want := p.buf[target][run], !ended && !started; got != want {
		p.errorf("run %s (%s): buffered is %v, want %v", run, h["st"], got, want)
	}
	if !p.index[target][run] || h["tr"] != "" && !p.byTrigger[h["tr"]][run] {
		p.errorf("run %s is missing in an index", run)
	}
	if _, ok := p.refs[h["pl"]]; !ok {
		p.errorf("run %s has no plan", run)
	}
}

// expectStep notes where a step must be found, by its state.
func (p *picture) expectStep(run string, i int, h map[string]string, s stepRow) {
	p.w.Helper()
	key := fmt.Sprint(run, ":", i)
	id := key + ":" + s.fence
	job, listed := h["j"+strconv.Itoa(i)]
	if open := s.state != "" && strings.Contains("wdrc", s.state); listed != (h["pol"] == "j" && open) {
		p.errorf("step %s (%s) has the busy job %q", key, s.state, job)
	}
	if listed {
		if got := p.busy[h["tg"]+" "+job]; got != key {
			p.errorf("job %s is kept busy by %q, want %s", job, got, key)
		}
	}
	switch s.state {
	case "w":
		retry := "retry|" + key + ":" + s.counter
		if p.parked[key] == p.timers[retry] {
			p.errorf("step %s waits: parked is %v, retry timer is %v", key, p.parked[key], p.timers[retry])
		}
		p.expectP[key] = p.parked[key]
		p.expectTimers[retry] = p.timers[retry]
	case "d":
		if !s.together {
			p.expectSent[id] = true
		}
	case "r", "c":
		p.expectLive[id+" "+s.worker] = true
		if s.state == "c" {
			p.expectOutbox["stop|"+s.worker+"|"+id] = true
		}
	}
}

// checkTasks checks the CBT tasks: a transition is under way as a whole or not at all,
// its run has not ended, and a task is watched while it is Running and nothing is.
func (p *picture) checkTasks() {
	p.w.Helper()
	for task := range p.taskSet {
		if p.tasks[task] == nil {
			p.errorf("task %s is listed and gone", task)
		}
	}
	for task, h := range p.tasks {
		if !p.taskSet[task] || h["v"] == "" || h["st"] == "" || h["def"] == "" {
			p.errorf("task %s is not listed or not whole: %v", task, h)
		}
		_, moving := h["prun"]
		for _, f := range []string{"p", "ord", "ms", "then", "else", "only"} {
			if _, has := h[f]; has != moving {
				p.errorf("task %s: has the field %s is %v, want %v", task, f, has, moving)
			}
		}
		if r := p.runs[h["prun"]]; moving && r != nil && strings.Contains("sfxt", r["st"]) {
			p.errorf("task %s waits for run %s, which has ended as %s", task, h["prun"], r["st"])
		}
		if _, admitted := p.runs[h["prun"]]; moving && !admitted {
			p.expectOutbox["cbt|"+task] = true
		} else if moving {
			p.expectOutbox["cbt|"+task] = p.outbox["cbt|"+task] // until it is confirmed
		}
		if h["st"] == "Running" && !moving {
			p.expectTimers["cbt|"+task] = true
		}
	}
}

// checkSets checks that the partition's sets hold what the rows ask for and
// nothing else.
func (p *picture) checkSets() {
	p.w.Helper()
	same := func(what string, got, want map[string]bool) {
		p.w.Helper()
		for m := range got {
			if !want[m] {
				p.errorf("%s holds %s, which no row asks for", what, m)
			}
		}
		for m, wanted := range want {
			if wanted && !got[m] {
				p.errorf("%s lacks %s", what, m)
			}
		}
	}
	uses := map[string]int{}
	for _, h := range p.runs {
		uses[h["pl"]]++
	}
	for plan, refs := range p.refs {
		if refs != uses[plan] {
			p.errorf("plan %s counts %d runs, %d use it", plan, refs, uses[plan])
		}
		// It goes when it is looked at, used or not.
		p.expectTimers["plan|"+plan] = p.timers["plan|"+plan]
		if refs == 0 && !p.timers["plan|"+plan] {
			p.errorf("plan %s is unused and has no timer", plan)
		}
	}
	for m := range p.outbox {
		if kind, _, _ := strings.Cut(m, "|"); slices.Contains([]string{"link", "member", "cbtvm"}, kind) {
			p.expectOutbox[m] = true
		}
	}
	same("sent", p.sent, p.expectSent)
	if p.waiting != p.expectWaiting {
		p.errorf("waiting is %d, the rows say %d", p.waiting, p.expectWaiting)
	}
	same("parked", p.parked, p.expectP)
	same("live", p.live, p.expectLive)
	same("timers", p.timers, p.expectTimers)
	same("outbox", p.outbox, p.expectOutbox)
	for _, sets := range []map[string]map[string]bool{p.act, p.buf, p.index, p.byTrigger} {
		for target, runs := range sets {
			for run := range runs {
				if p.runs[run] == nil {
					p.errorf("an index of %s names run %s, which is gone", target, run)
				}
			}
		}
	}
	for job, key := range p.busy {
		if s := p.steps[key].state; s == "" || !strings.Contains("wdrc", s) {
			p.errorf("job %s is kept busy by step %s, whose state is %q", job, key, s)
		}
	}
}
