package zstack_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// The property: what a query answers is what a plain look at every inventory gives.
// The look knows the inventories as clients are shown them, and the specification's
// operators in their simplest form; it shares no code with the dialect.

// A condition in pieces, so that the look needs no parser.
type piece struct{ name, op, value string }

func (p piece) text() string { return p.name + p.op + p.value }

// shown gives a value as MySQL would compare it: "" and false for null.
func shown(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case bool:
		return fmt.Sprint(v), true
	case json.Number:
		return v.String(), true
	}
	s := v.(string)
	if at, err := time.Parse("Jan 2, 2006 3:04:05 PM", s); err == nil {
		return at.Format("2006-01-02 15:04:05"), true
	}
	return strings.ToLower(s), true
}

// ordered compares texts, or numbers where both are.
func ordered(a, b string) int {
	x, y := json.Number(a), json.Number(b)
	m, err := x.Int64()
	n, err2 := y.Int64()
	if err == nil && err2 == nil {
		return int(min(max(m-n, -1), 1))
	}
	return strings.Compare(a, b)
}

func looksLike(pattern, text string) bool {
	quoted := regexp.QuoteMeta(strings.ToLower(pattern))
	return regexp.MustCompile(`(?s)^` + strings.NewReplacer("%", ".*", "_", ".").Replace(quoted) + `$`).MatchString(text)
}

// positiveHolds judges an operator that is not negated.
func positiveHolds(op, value, operand string) bool {
	operand = strings.ToLower(operand)
	switch op {
	case "=":
		return value == operand
	case ">":
		return ordered(value, operand) > 0
	case "<":
		return ordered(value, operand) < 0
	case ">=":
		return ordered(value, operand) >= 0
	case "<=":
		return ordered(value, operand) <= 0
	case "?=":
		return slices.ContainsFunc(strings.Split(operand, ","), func(x string) bool { return strings.TrimSpace(x) == value })
	case "~=":
		return looksLike(operand, value)
	}
	return true // not null
}

var negated = map[string]string{"!=": "=", "!?=": "?=", "!~=": "~=", " is null": " not null"}

// looked judges a condition on a field's value: of a list, one element has to pass,
// or for a negated operator none may.
func looked(p piece, v any) bool {
	op, negative := p.op, false
	if positive, ok := negated[p.op]; ok {
		op, negative = positive, true
	}
	if list, ok := v.([]any); ok {
		match := slices.ContainsFunc(list, func(x any) bool { s, _ := shown(x); return positiveHolds(op, s, p.value) })
		return match != negative
	}
	s, there := shown(v)
	if !there {
		return p.op == " is null"
	}
	return positiveHolds(op, s, p.value) != negative
}

// A table is all inventories of a kind and where its one-hop names lead.
type table struct {
	path string
	rows []map[string]any
	hops map[string]hopTo
}

type hopTo struct {
	field string
	to    *table
}

func (tb *table) passes(p piece, row map[string]any) bool {
	hop, field, ok := strings.Cut(p.name, ".")
	if !ok {
		return looked(p, row[p.name])
	}
	h := tb.hops[hop]
	var values []any
	for _, u := range row[h.field].([]any) {
		for _, other := range h.to.rows {
			if other["uuid"] == u {
				if list, isList := other[field].([]any); isList {
					values = append(values, list...)
				} else if other[field] != nil {
					values = append(values, other[field])
				}
			}
		}
	}
	return looked(p, append([]any{}, values...))
}

// random gives a condition on a column, with a value that some row has, more often
// than not.
func (tb *table) random(r *rand.Rand) piece {
	from, prefix := tb, ""
	if len(tb.hops) > 0 && r.IntN(4) == 0 {
		names := []string{}
		for n := range tb.hops {
			names = append(names, n)
		}
		slices.Sort(names)
		n := names[r.IntN(len(names))]
		from, prefix = tb.hops[n].to, n+"."
	}
	row := from.rows[r.IntN(len(from.rows))]
	columns := []string{}
	for c := range row {
		columns = append(columns, c)
	}
	slices.Sort(columns)
	c := columns[r.IntN(len(columns))]
	ops := []string{"=", "!=", ">", "<", ">=", "<=", "?=", "!?=", "~=", "!~=", " is null", " not null"}
	p := piece{name: prefix + c, op: ops[r.IntN(len(ops))]}
	v := row[c]
	if list, ok := v.([]any); ok {
		v = nil
		if len(list) > 0 {
			v = list[r.IntN(len(list))]
		}
	}
	text, there := shown(v)
	switch {
	case strings.HasSuffix(p.op, "null"):
		return p
	case !there: // any value of the column's kind: the column may be a number or a time
		p.op = " is null"
		return p
	case strings.Contains(text, ",") || strings.ContainsAny(text, `\%_`) && strings.Contains(p.op, "~"):
		p.op = " not null"
		return p
	case p.op == "~=" || p.op == "!~=":
		cut := r.IntN(len(text) + 1)
		text = []string{text[:cut] + "%", "%" + text[cut:], strings.Replace(text, "e", "_", 1)}[r.IntN(3)]
	case p.op == "?=" || p.op == "!?=":
		if other, ok := from.rows[r.IntN(len(from.rows))][c].(string); ok && !strings.Contains(other, ",") {
			s, _ := shown(other)
			text += "," + s
		}
	}
	if r.IntN(2) == 0 {
		text = strings.ToUpper(text)
	}
	p.value = text
	return p
}

func TestQueriesAgreeWithAPlainLook(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	r := newReplica(t, setting{})
	r.hire("w")
	r.populate(rng)

	jobs, groups, triggers, history := &table{path: "jobs"}, &table{path: "jobgroups"}, &table{path: "triggers"}, &table{path: "job/history"}
	jobs.hops = map[string]hopTo{"trigger": {"triggersUuid", triggers}}
	groups.hops = map[string]hopTo{"trigger": {"triggersUuid", triggers}, "job": {"jobsUuid", jobs}}
	triggers.hops = map[string]hopTo{"job": {"jobsUuid", jobs}, "jobGroup": {"jobGroupsUuid", groups}}
	all := []*table{jobs, groups, triggers, history}
	for _, tb := range all {
		tb.rows = r.do("GET", "/scheduler/"+tb.path, "").inventories()
	}
	for _, tb := range all {
		for range 250 {
			r.agree(rng, tb)
		}
	}
}

// agree asks one random query and compares.
func (r *replica) agree(rng *rand.Rand, tb *table) {
	r.t.Helper()
	var ask []string
	want := slices.Clone(tb.rows)
	for range rng.IntN(3) {
		p := tb.random(rng)
		ask = append(ask, "q→"+p.text())
		want = slices.DeleteFunc(want, func(row map[string]any) bool { return !tb.passes(p, row) })
	}
	total := len(want)
	if rng.IntN(2) == 0 {
		var field string
		for field == "" {
			for c, v := range tb.rows[rng.IntN(len(tb.rows))] {
				if _, list := v.([]any); !list {
					field = c
				}
			}
		}
		down := rng.IntN(2) == 0
		ask = append(ask, "sort→"+map[bool]string{true: "-", false: "+"}[down]+field)
		slices.SortStableFunc(want, func(x, y map[string]any) int {
			a, okA := shown(x[field])
			b, okB := shown(y[field])
			order := ordered(a, b)
			if !okA || !okB {
				order = strings.Compare(fmt.Sprint(okA), fmt.Sprint(okB))
			}
			if down {
				return -order
			}
			return order
		})
		r.sameSorted(ask, tb, want, field)
		return
	}
	if rng.IntN(3) == 0 {
		start, limit := rng.IntN(5), rng.IntN(9)
		ask = append(ask, fmt.Sprint("start→", start), fmt.Sprint("limit→", limit))
		want = want[min(start, len(want)):]
		want = want[:min(limit, len(want))]
	}
	got := r.do("GET", "/scheduler/"+tb.path+q(append(ask, "replyWithCount→true")...), "")
	equal(r.t, fmt.Sprint(tb.path, " ", ask), keysOf(got.inventories()), keysOf(want))
	equal(r.t, fmt.Sprint(tb.path, " ", ask, " total"), got.body["total"], jsonNumber(fmt.Sprint(total)))
	counted := r.do("GET", "/scheduler/"+tb.path+q(append(ask, "count→true")...), "").ok()
	equal(r.t, fmt.Sprint(tb.path, " ", ask, " count"), counted, map[string]any{"total": jsonNumber(fmt.Sprint(total))})
}

// sameSorted compares all rows in an order. Rows whose field is the same may come in
// any order among themselves.
func (r *replica) sameSorted(ask []string, tb *table, want []map[string]any, field string) {
	r.t.Helper()
	got := r.do("GET", "/scheduler/"+tb.path+q(ask...), "").inventories()
	what := fmt.Sprint(tb.path, " ", ask)
	values := func(rows []map[string]any) (out []string) {
		for _, row := range rows {
			s, ok := shown(row[field])
			out = append(out, fmt.Sprint(ok, s))
		}
		return out
	}
	equal(r.t, what, values(got), values(want))
	a, b := keysOf(got), keysOf(want)
	slices.Sort(a)
	slices.Sort(b)
	equal(r.t, what+", rows", a, b)
}

func keysOf(rows []map[string]any) []string {
	out := []string{}
	for _, row := range rows {
		if u, ok := row["uuid"].(string); ok {
			out = append(out, u)
		} else {
			out = append(out, textNumber(row["id"]))
		}
	}
	return out
}

// populate makes random definitions, and fires with all ends.
func (r *replica) populate(rng *rand.Rand) {
	r.t.Helper()
	words := []string{"Nightly", "nightly", "weekly backup", "Äpfel", "e", "vm 1", "VM 2", "x=1", "a!=b"}
	name := func() string { return words[rng.IntN(len(words))] }
	describe := func(kind string, uuid string) {
		if rng.IntN(2) == 0 {
			r.rewrite(kind, uuid, name())
		}
	}
	var jobs, groups, triggers []string
	targets := []string{id.New(), id.New()}
	for range 9 {
		jobs = append(jobs, r.job(name(), targets[rng.IntN(2)]))
		describe("job", jobs[len(jobs)-1])
	}
	for i := range 4 {
		groups = append(groups, r.groupOf(name(), jobs[2*i:2*i+1+rng.IntN(2)]...))
		describe("group", groups[i])
	}
	for range 3 {
		triggers = append(triggers, r.trigger(name()))
	}
	for _, g := range groups[:3] {
		r.bindGroup(g, triggers[rng.IntN(3)], true).ok()
	}
	for _, j := range jobs[:5] {
		r.do("POST", "/scheduler/jobs/"+j+"/scheduler/triggers/"+triggers[rng.IntN(3)], `{"params":{"triggerNow":true}}`).ok()
	}
	for range 6 {
		r.do("PUT", "/scheduler/triggers/"+triggers[rng.IntN(3)]+"/actions", `{"runSchedulerTrigger":{}}`).ok()
		for _, d := range r.queue.take() {
			switch rng.IntN(4) {
			case 0:
				r.work(d, "w", core.Outcome{State: core.AttemptSucceeded, Output: name(), Retry: -1})
			case 1:
				r.work(d, "w", core.Outcome{State: core.AttemptFailed, Reason: name(), Retry: -1})
			case 2:
				r.work(d, "w", core.Outcome{})
			}
		}
	}
}

// rewrite gives a definition a description.
func (r *replica) rewrite(kind, uuid, description string) {
	r.t.Helper()
	var err error
	if kind == "job" {
		_, err = r.engine.UpdateJob(r.ctx(), uuid, 0, func(j *core.Job) error { j.Description = description; return nil })
	} else {
		_, err = r.engine.UpdateGroup(r.ctx(), uuid, 0, func(g *core.Group) error { g.Description = description; return nil })
	}
	if err != nil {
		r.t.Fatalf("describe %s %s: %v", kind, uuid, err)
	}
}
