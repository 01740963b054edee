package store_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// What Blueprint remembers has to be given up by every kind of edit, also by one of
// another process.
func TestBlueprintSeesEveryEdit(t *testing.T) {
	w := newWorld(t, store.Options{})
	other := store.New(w.rdb, store.Options{})
	group := core.Group{Meta: meta(w, "g"), Type: "noop", Enabled: true}
	w.ok(w.store.CreateGroup(t.Context(), group))
	jobs := make([]core.Job, 3)
	for i := range jobs {
		jobs[i] = core.Job{Meta: meta(w, "j"+itoa(i)), Type: "noop", Enabled: true}
		w.ok(w.store.CreateJob(t.Context(), jobs[i]))
	}
	names := func() (g string, names []string) {
		t.Helper()
		gr, list, err := w.store.Blueprint(t.Context(), group.UUID)
		w.ok(err)
		for _, j := range list {
			names = append(names, j.Name)
		}
		return gr.Name, names
	}
	enroll := func(js ...core.Job) {
		t.Helper()
		var uuids []string
		for _, j := range js {
			uuids = append(uuids, j.UUID)
		}
		w.ok(other.Claim(t.Context(), group.UUID, uuids))
		w.ok(other.Enroll(t.Context(), group.UUID, uuids, 100))
	}
	steps := []struct {
		name string
		edit func()
		want []string
	}{
		{"an empty group", func() {}, nil},
		{"jobs added", func() { enroll(jobs[0], jobs[1]) }, []string{"j0", "j1"}},
		{"a job renamed", func() { j := jobs[1]; j.Version, j.Name = 1, "new"; w.ok(other.UpdateJob(t.Context(), j)) }, []string{"j0", "new"}},
		{"a job added", func() { enroll(jobs[2]) }, []string{"j0", "new", "j2"}},
		{"a job taken out", func() { _, err := other.Withdraw(t.Context(), group.UUID, []string{jobs[0].UUID}); w.ok(err) }, []string{"new", "j2"}},
		{"a job deleted", func() { _, _, _, err := other.DeleteJob(t.Context(), jobs[2].UUID); w.ok(err) }, []string{"new"}},
		{"its membership settled", func() { w.ok(other.SettleMember(t.Context(), group.UUID, jobs[2].UUID)) }, []string{"new"}},
	}
	for _, s := range steps {
		s.edit()
		for range 2 { // the second time from memory
			if _, got := names(); len(got)+len(s.want) > 0 {
				wantEqual(t, s.name, got, s.want)
			}
		}
	}
	g, _, err := w.store.Blueprint(t.Context(), group.UUID)
	w.ok(err)
	if len(g.Members) != 1 {
		t.Errorf("members after all: %+v, want one", g.Members)
	}
	group.Version, group.Name = 1, "renamed"
	w.ok(other.UpdateGroup(t.Context(), group))
	if got, _ := names(); got != "renamed" {
		t.Errorf("the group is called %q, want its new name", got)
	}
	_, _, _, err = other.DeleteGroup(t.Context(), group.UUID)
	w.ok(err)
	_, _, err = w.store.Blueprint(t.Context(), group.UUID)
	wantErrorKind(t, "a deleted group", err, core.NotFound)
	_, _, err = w.store.Blueprint(t.Context(), id.New())
	wantErrorKind(t, "an unknown group", err, core.NotFound)
}
