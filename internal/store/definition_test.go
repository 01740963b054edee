package store_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

func meta(w *world, name string) core.Meta {
	return core.Meta{UUID: w.call(id.New(), name), Account: "acc", Dialect: core.Native, Name: name, Created: accountBirth, Updated: accountBirth}
}

// job stores a new job and gives its uuid.
func (w *world) job(name string) string {
	w.Helper()
	j := core.Job{Meta: meta(w, name), Type: "noop", Enabled: true}
	w.ok(w.store.CreateJob(w.Context(), j))
	return j.UUID
}

// jobGroup stores a new group and gives its uuid.
func (w *world) jobGroup(name string) string {
	w.Helper()
	g := core.Group{Meta: meta(w, name), Type: "noop", Enabled: true}
	w.ok(w.store.CreateGroup(w.Context(), g))
	return g.UUID
}

func (w *world) members(group string) []string {
	w.Helper()
	groups := must(w.store.Groups(w.Context(), []string{group}))(w)
	if len(groups) == 0 {
		return nil
	}
	var out []string
	for _, m := range groups[0].Members {
		out = append(out, m.Job)
	}
	return out
}

func (w *world) groupOf(job string) string {
	w.Helper()
	jobs := must(w.store.Jobs(w.Context(), []string{job}))(w)
	if len(jobs) == 0 {
		return ""
	}
	return jobs[0].Group
}

func TestJobRows(t *testing.T) {
	w := newWorld(t, store.Options{})
	want := core.Job{
		Meta: meta(w, "a|b\nc"), Type: "noop", Parameters: map[string]string{"k|": "v\n"}, Target: id.New(), Enabled: true,
		Retry: core.Retry{Attempts: 3, Jitter: 0.25}, Timeout: time.Minute, Priority: core.PriorityLow,
	}
	w.ok(w.store.CreateJob(t.Context(), want))
	w.wantChanges("the same again, as the reply was lost", func() { w.ok(w.store.CreateJob(t.Context(), want)) })
	second := want
	second.Enabled = false
	wantErrorKind(t, "another job of that uuid", w.store.CreateJob(t.Context(), second), core.Exists)
	wantErrorKind(t, "a group of that uuid", w.store.CreateGroup(t.Context(), core.Group{Meta: want.Meta}), core.Exists)
	want.Version = 1
	wantEqual(t, "created", must(w.store.Jobs(t.Context(), []string{id.New(), want.UUID}))(w), []core.Job{want})
	old := want
	old.Name = "old"
	want.Name = "new"
	w.ok(w.store.UpdateJob(t.Context(), want))
	w.wantChanges("the same again, as the reply was lost", func() { w.ok(w.store.UpdateJob(t.Context(), want)) })
	want.Version = 2
	wantErrorKind(t, "update an old version", w.store.UpdateJob(t.Context(), old), core.Stale)
	wantEqual(t, "updated", must(w.store.ListJobs(t.Context()))(w), []core.Job{want})
	missing := want
	missing.UUID = id.New()
	wantErrorKind(t, "update what is missing", w.store.UpdateJob(t.Context(), missing), core.NotFound)
	group, triggers, ok, err := w.store.DeleteJob(t.Context(), want.UUID)
	if group != "" || triggers != nil || !ok || err != nil {
		t.Errorf("delete: got %q, %q, %v, %v", group, triggers, ok, err)
	}
	if _, _, ok, err = w.store.DeleteJob(t.Context(), want.UUID); ok || err != nil {
		t.Errorf("delete again: got %v, %v", ok, err)
	}
	if left := w.keys(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestGroupRows(t *testing.T) {
	w := newWorld(t, store.Options{})
	want := core.Group{Meta: meta(w, "g"), Type: "noop", Parameters: map[string]string{"a": "b"}, Enabled: true, Timeout: time.Hour}
	w.ok(w.store.CreateGroup(t.Context(), want))
	second := want
	second.Name = "another"
	wantErrorKind(t, "another group of that uuid", w.store.CreateGroup(t.Context(), second), core.Exists)
	wantErrorKind(t, "a job of that uuid", w.store.CreateJob(t.Context(), core.Job{Meta: want.Meta}), core.Exists)
	want.Version = 1
	wantEqual(t, "created", must(w.store.ListGroups(t.Context()))(w), []core.Group{want})
	want.Enabled = false
	w.ok(w.store.UpdateGroup(t.Context(), want))
	wantErrorKind(t, "update an old version", w.store.UpdateGroup(t.Context(), core.Group{Meta: want.Meta}), core.Stale)
	want.Version = 2
	wantEqual(t, "updated", must(w.store.Groups(t.Context(), []string{want.UUID}))(w), []core.Group{want})
	if _, _, ok, err := w.store.DeleteGroup(t.Context(), want.UUID); !ok || err != nil {
		t.Errorf("delete: got %v, %v", ok, err)
	}
	if _, _, ok, err := w.store.DeleteGroup(t.Context(), want.UUID); ok || err != nil {
		t.Errorf("delete again: got %v, %v", ok, err)
	}
	if left := w.keys(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestClaim(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	a, b, g := w.job("A"), w.job("B"), w.jobGroup("G")
	w.wantChanges("claim", func() { w.ok(w.store.Claim(t.Context(), g, []string{a, b})) },
		"+ jobgroup A G", "+ jobgroup B G", "+ outbox member|G|A", "+ outbox member|G|B", "+ was:A G", "+ was:B G")
	w.wantChanges("claim again", func() { w.ok(w.store.Claim(t.Context(), g, []string{b, a})) })
	c := w.job("C")
	w.wantChanges("claim for another group", func() {
		err := w.store.Claim(t.Context(), w.call(id.New(), "H"), []string{c, b})
		wantErrorKind(t, "claim", err, core.Conflict)
		if !strings.Contains(core.Text(err), b) || !strings.Contains(core.Text(err), g) {
			t.Errorf("got %q, want job and group named", core.Text(err))
		}
	})
	w.wantChanges("claim what is missing", func() {
		wantErrorKind(t, "claim", w.store.Claim(t.Context(), g, []string{c, id.New()}), core.NotFound)
	})
}

func TestEnrollAndWithdraw(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	g := w.jobGroup("G")
	a, b, c := w.job("A"), w.job("B"), w.job("C")
	w.wantChanges("enroll", func() { w.ok(w.store.Enroll(t.Context(), g, []string{b, a}, 2)) },
		"+ members:G A", "+ members:G B", "+ outbox member|G|A", "+ outbox member|G|B")
	wantEqual(t, "members in the order given", w.members(g), []string{b, a})
	w.wantChanges("enroll again", func() { w.ok(w.store.Enroll(t.Context(), g, []string{a, b, a}, 2)) })
	w.wantChanges("enroll one too many", func() {
		wantErrorKind(t, "enroll", w.store.Enroll(t.Context(), g, []string{c}, 2), core.Exhausted)
	})
	w.ok(w.store.Enroll(t.Context(), g, []string{c, c}, 3)) // named twice it takes one seat
	wantEqual(t, "members", w.members(g), []string{b, a, c})
	wantErrorKind(t, "a missing group", w.store.Enroll(t.Context(), id.New(), []string{a}, 2), core.NotFound)
	for _, job := range []string{a, b, c} {
		w.ok(w.store.SettleMember(t.Context(), g, job))
	}
	w.wantChanges("withdraw", func() {
		if n := must(w.store.Withdraw(t.Context(), g, []string{b, id.New()}))(w); n != 1 {
			t.Errorf("got %d taken out, want 1", n)
		}
	}, "- members:G B", "+ outbox member|G|B")
	w.ok(w.store.SettleMember(t.Context(), g, b))
	if got := w.groupOf(b); got != "" || len(w.outbox(g)) != 0 {
		t.Errorf("after withdrawing: got group %q and the outbox %q", got, w.outbox(g))
	}
}

// TestSettleMember makes claim and list agree from every combination of the two.
func TestSettleMember(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                  string
		listed, exists        bool
		claim                 string // "", G or H
		wantListed, wantClaim string
	}{
		{"nothing", false, true, "", "", ""},
		{"a claim that came to nothing", false, true, "G", "", ""},
		{"claimed by another", false, true, "H", "", "H"},
		{"listed without a claim", true, true, "", "A", "G"},
		{"as it should be", true, true, "G", "A", "G"},
		{"another group took the job", true, true, "H", "", "H"},
		{"the job is gone", true, false, "", "", ""},
		{"the job is gone, its claim is not", true, false, "G", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{Partitions: 1})
			g, h, a := w.jobGroup("G"), w.jobGroup("H"), w.call(id.New(), "A")
			if row.exists {
				a = w.job("A")
			}
			if row.listed {
				w.ok(w.store.Enroll(t.Context(), g, []string{a}, 9))
			}
			if group := map[string]string{"G": g, "H": h}[row.claim]; group != "" {
				w.ok(w.rdb.HSet(t.Context(), "takt:{p:0}:jobgroup", a, group).Err())
			}
			for range 2 { // the second time changes nothing
				w.ok(w.store.SettleMember(t.Context(), g, a))
				claim := w.names[w.rdb.HGet(t.Context(), "takt:{p:0}:jobgroup", a).Val()]
				var listed string
				for _, m := range w.members(g) {
					listed += w.names[m]
				}
				if listed != row.wantListed || claim != row.wantClaim {
					t.Errorf("got listed %q and claim %q, want %q and %q", listed, claim, row.wantListed, row.wantClaim)
				}
				if left := w.outbox(g); len(left) != 0 {
					t.Errorf("outbox: got %q", left)
				}
			}
		})
	}
}

// TestLateEnrollHeals lets the reconciler undo a claim whose maker is slow: what
// that one writes afterwards must not leave a job in two groups, though it dies.
func TestLateEnrollHeals(t *testing.T) {
	w := newWorld(t, store.Options{})
	a, g, h := w.job("A"), w.jobGroup("G"), w.jobGroup("H")
	w.ok(w.store.Claim(t.Context(), g, []string{a}))
	w.ok(w.store.SettleMember(t.Context(), g, a)) // the reconciler
	w.ok(w.store.Claim(t.Context(), h, []string{a}))
	w.ok(w.store.Enroll(t.Context(), h, []string{a}, 9))
	w.ok(w.store.SettleMember(t.Context(), h, a))
	w.ok(w.store.Enroll(t.Context(), g, []string{a}, 9)) // the slow one, which dies now
	w.reconcileMembers()
	if got := w.members(g); len(got) != 0 || w.groupOf(a) != h || len(w.members(h)) != 1 {
		t.Errorf("got the job in %q and %q, claimed by %s", got, w.members(h), w.names[w.groupOf(a)])
	}
}

// reconcileMembers does what the outboxes say of members, as the reconciler does.
func (w *world) reconcileMembers() {
	w.Helper()
	for n := range w.store.Partitions() {
		for _, e := range must(w.store.Outbox(w.Context(), n, w.now().Add(time.Second)))(w) {
			if e[0] == "member" {
				w.ok(w.store.SettleMember(w.Context(), e[1], e[2]))
			}
		}
	}
}

// TestJobsInOneGroupAtMost adds and removes the same jobs to three groups at the
// same time, with reconcilers at work and makers that die at any point.
func TestJobsInOneGroupAtMost(t *testing.T) {
	w := newWorld(t, store.Options{})
	groups := []string{w.jobGroup("G"), w.jobGroup("H"), w.jobGroup("I")}
	var jobs []string
	for i := range 4 {
		jobs = append(jobs, w.job("J"+itoa(i)))
	}
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			ctx := t.Context()
			for k := range 40 {
				g, j := groups[i%3], jobs[(i/3+k)%4]
				if k%5 == 4 {
					_, _ = w.store.Withdraw(ctx, g, []string{j})
				}
				if w.store.Claim(ctx, g, []string{j}) == nil && (k+i)%3 != 0 {
					_ = w.store.Enroll(ctx, g, []string{j}, 9)
				}
				if k%4 != 0 {
					_ = w.store.SettleMember(ctx, groups[(i+k)%3], j)
				}
			}
		})
	}
	wg.Wait()
	for range 3 {
		w.reconcileMembers()
	}
	for _, j := range jobs {
		var in []string
		for _, g := range groups {
			if slices.Contains(w.members(g), j) {
				in = append(in, g)
			}
		}
		claim := w.groupOf(j)
		if len(in) > 1 || len(in) == 1 && claim != in[0] || len(in) == 0 && claim != "" {
			t.Errorf("job %s is in %d groups, claimed by %q", w.names[j], len(in), w.names[claim])
		}
	}
	for n := range w.store.Partitions() {
		if left := must(w.store.Outbox(t.Context(), n, w.now().Add(time.Second)))(w); len(left) != 0 {
			t.Errorf("outbox: got %q", left)
		}
	}
}

func TestDeletesLeaveWordForOthers(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	a, g, tr := w.job("A"), w.jobGroup("G"), w.call(id.New(), "T")
	w.ok(w.store.Claim(t.Context(), g, []string{a}))
	w.ok(w.store.Enroll(t.Context(), g, []string{a}, 9))
	w.ok(w.store.SettleMember(t.Context(), g, a))
	job, group := core.Target{Kind: core.JobTarget, UUID: a}, core.Target{Kind: core.GroupTarget, UUID: g}
	for _, target := range []core.Target{job, group} {
		w.ok(w.store.Link(t.Context(), target, tr, 9))
		w.settleLink(target, tr, true)
	}
	row := w.rdb.HGet(t.Context(), "takt:{p:0}:job", a).Val()
	row = strings.NewReplacer(a, "A").Replace(row)
	w.wantChanges("delete the job", func() {
		in, triggers, ok, err := w.store.DeleteJob(t.Context(), a)
		if in != g || !cmp.Equal(triggers, []string{tr}) || !ok || err != nil {
			t.Errorf("got %q, %q, %v, %v", in, triggers, ok, err)
		}
	}, "- job A "+row, "- jobgroup A G", "+ outbox member|G|A", "+ outbox link|job|A|T")
	row = strings.NewReplacer(g, "G").Replace(w.rdb.HGet(t.Context(), "takt:{p:0}:group", g).Val())
	w.wantChanges("delete the group", func() {
		jobs, triggers, ok, err := w.store.DeleteGroup(t.Context(), g)
		if !cmp.Equal(jobs, []string{a}) || !cmp.Equal(triggers, []string{tr}) || !ok || err != nil {
			t.Errorf("got %q, %q, %v, %v", jobs, triggers, ok, err)
		}
	}, "- group G "+row, "- members:G A", "+ outbox link|group|G|T")
	w.reconcileMembers()
	for _, target := range []core.Target{job, group} {
		w.settleLink(target, tr, false)
	}
	// What tells of the job's history goes by itself.
	was := "takt:{p:0}:was:" + a
	if life := w.rdb.PTTL(t.Context(), was).Val(); life < 7*24*time.Hour || life > 15*24*time.Hour {
		t.Errorf("got %s left for the groups of a deleted job, want the retention of runs and the longest timeout", life)
	}
	w.ok(w.rdb.Del(t.Context(), was).Err())
	if left := w.keys(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// settleLink settles a link as who knows how it is.
func (w *world) settleLink(t core.Target, trigger string, bound bool) {
	w.Helper()
	_, note, err := w.store.NoteLink(w.Context(), t, trigger)
	w.ok(err)
	w.ok(w.store.SetLink(w.Context(), t, trigger, bound, note))
}

// Of all who settle a link at once only the last to begin writes, since it has read last.
func TestLinkIsWrittenByTheLastNote(t *testing.T) {
	w := newWorld(t, store.Options{})
	target := core.Target{Kind: core.JobTarget, UUID: w.job("A")}
	note := func() string {
		t.Helper()
		_, note, err := w.store.NoteLink(t.Context(), target, "T")
		w.ok(err)
		return note
	}
	first, last := note(), note()
	w.wantChanges("the first", func() { w.ok(w.store.SetLink(t.Context(), target, "T", true, first)) })
	w.wantChanges("the last", func() { w.ok(w.store.SetLink(t.Context(), target, "T", true, last)) }, "+ links:A T", "- outbox link|job|A|T")
	w.wantChanges("the last again", func() { w.ok(w.store.SetLink(t.Context(), target, "T", false, last)) })
	late := note()
	w.wantChanges("another settles it whole meanwhile", func() { w.settleLink(target, "T", false) }, "- links:A T", "- outbox link|job|A|T")
	w.wantChanges("who was late", func() { w.ok(w.store.SetLink(t.Context(), target, "T", true, late)) })
}

func TestLinks(t *testing.T) {
	w := newWorld(t, store.Options{})
	target := core.Target{Kind: core.JobTarget, UUID: w.job("A")}
	w.wantChanges("link", func() { w.ok(w.store.Link(t.Context(), target, "T1", 2)) }, "+ links:A T1", "+ outbox link|job|A|T1")
	w.wantChanges("link again", func() { w.ok(w.store.Link(t.Context(), target, "T1", 2)) })
	w.ok(w.store.Link(t.Context(), target, "T2", 2))
	w.wantChanges("link one too many", func() {
		wantErrorKind(t, "link", w.store.Link(t.Context(), target, "T3", 2), core.Exhausted)
	})
	w.ok(w.store.Link(t.Context(), target, "T2", 2)) // a note that is there needs no room
	wantErrorKind(t, "a missing job", w.store.Link(t.Context(), core.Target{Kind: core.JobTarget, UUID: id.New()}, "T1", 2), core.NotFound)
	wantErrorKind(t, "a job is no group", w.store.Link(t.Context(), core.Target{Kind: core.GroupTarget, UUID: target.UUID}, "T1", 2), core.NotFound)
	other := id.New()
	links := must(w.store.Links(t.Context(), []string{target.UUID, other}))(w)
	slices.Sort(links[target.UUID])
	wantEqual(t, "links", links, map[string][]string{target.UUID: {"T1", "T2"}, other: {}})
	w.wantChanges("confirm", func() { w.settleLink(target, "T1", true) }, "- outbox link|job|A|T1")
	w.wantChanges("free", func() { w.settleLink(target, "T2", false) }, "- links:A T2", "- outbox link|job|A|T2")
	for _, row := range []struct {
		target core.Target
		want   bool
	}{
		{target, true}, {core.Target{Kind: core.GroupTarget, UUID: target.UUID}, false}, {core.Target{Kind: core.JobTarget, UUID: other}, false},
	} {
		got, note, err := w.store.NoteLink(t.Context(), row.target, "T9")
		if got != row.want || err != nil {
			t.Errorf("%s %s exists: got %v (%v), want %v", row.target.Kind, w.names[row.target.UUID], got, err, row.want)
		}
		w.ok(w.store.SetLink(t.Context(), row.target, "T9", false, note))
	}
}
