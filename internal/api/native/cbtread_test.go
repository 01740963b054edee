package native_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
)

// twice makes a task that has two checkpoints and is Stopped.
func (e *env) twice() string {
	e.t.Helper()
	path := e.tracked()
	for range 2 {
		e.admin().post(path+"/enable", nil).want(202)
		e.settled(path)
		e.admin().post(path+"/disable", nil).want(202)
		e.settled(path)
	}
	return path
}

func TestCheckpoints(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.twice()
	var list native.CheckpointList
	e.admin().get(path + "/checkpoints").want(200).read(&list)
	at := time.Date(2026, 11, 21, 3, 0, 1, 0, time.UTC)
	want := []native.Checkpoint{
		{Name: checkpoint(1), At: at, Machines: []string{machine}, Complete: true},
		{Name: checkpoint(2), At: at.Add(time.Second), Machines: []string{machine}, Complete: true, Changed: understudy.Disks * understudy.Changed},
	}
	if diff := cmp.Diff(want, list.Items); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}

	e.admin().del(path + "/checkpoints/" + checkpoint(1)).want(202)
	e.settled(path)
	e.admin().get(path + "/checkpoints").want(200).read(&list)
	if len(list.Items) != 1 || list.Items[0].Name != checkpoint(2) {
		t.Errorf("checkpoints = %+v, want the second", list.Items)
	}
	if o := host.Orders(cbt.OpForget); len(o) != 1 || o[0].Seq != 1 {
		t.Errorf("orders = %+v, want to forget the first", o)
	}
	for _, name := range []string{checkpoint(1), "cbt-ffffffffffff-2", "2"} {
		e.admin().del(path + "/checkpoints/" + name).want(404)
	}
	if p := e.admin().with("If-Match", `"1"`).del(path + "/checkpoints/" + checkpoint(2)).want(400).problem(); p.Field != "If-Match" {
		t.Errorf("problem = %+v", p)
	}
}

// Changes come in pages that can be resumed at any offset.
func TestChanges(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.twice()
	const block = understudy.Block
	volume := understudy.Volume(machine, 1)
	all := []native.Extent{{Offset: 0, Length: block}, {Offset: 2 * block, Length: block, Zero: true}}
	base := path + "/changes?volume=" + volume
	span := "&from=" + checkpoint(1) + "&to=" + checkpoint(2)
	for _, row := range []struct {
		name, ask string
		want      []native.Extent
		next      int64
		span      cbt.Span
	}{
		{"allocated now", "", all, 0, cbt.Span{}},
		{"since a checkpoint", "&from=" + checkpoint(1), all, 0, cbt.Span{From: 1}},
		{"between two", span, all, 0, cbt.Span{From: 1, To: 2}},
		{"a page", span + "&maxResults=1", all[:1], 2 * block, cbt.Span{From: 1, To: 2}},
		{"the next page", span + "&maxResults=1&startingOffset=131072", all[1:], 0, cbt.Span{From: 1, To: 2}},
		{"from within an extent", "&startingOffset=4096&maxResults=1", []native.Extent{{Offset: 4096, Length: block - 4096}}, 2 * block, cbt.Span{}},
		{"behind all", "&startingOffset=4194304", []native.Extent{}, 0, cbt.Span{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got native.Changes
			e.admin().get(base + row.ask).want(200).read(&got)
			want := native.Changes{Volume: volume, Size: understudy.Size, Block: block, Extents: row.want, NextOffset: row.next}
			want.From, want.To = got.From, got.To
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("page (-want +got):\n%s", diff)
			}
			orders := host.Orders(cbt.OpChanges)
			if last := orders[len(orders)-1].Changes.Span; last != row.span {
				t.Errorf("span asked for = %+v, want %+v", last, row.span)
			}
		})
	}
	for _, row := range []struct {
		name, ask string
		status    int
		field     string
	}{
		{"no volume", path + "/changes", 400, "volume"},
		{"a volume that is none", path + "/changes?volume=disk", 400, "volume"},
		{"a volume of nobody", path + "/changes?volume=ffffffffffffffffffffffffffffffff", 404, ""},
		{"from no checkpoint", base + "&from=yesterday", 400, "from"},
		{"from another task's", base + "&from=cbt-ffffffffffff-1", 400, "from"},
		{"from one that is not", base + "&from=" + checkpoint(7), 404, ""},
		{"backwards", base + "&from=" + checkpoint(2) + "&to=" + checkpoint(1), 400, "to"},
		{"to without from", base + "&to=" + checkpoint(1), 400, "to"},
		{"too many", base + "&maxResults=1001", 400, "maxResults"},
		{"none", base + "&maxResults=0", 400, "maxResults"},
		{"a negative offset", base + "&startingOffset=-1", 400, "startingOffset"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if p := e.admin().get(row.ask).want(row.status).problem(); p.Field != row.field {
				t.Errorf("problem = %+v, want the field %q", p, row.field)
			}
		})
	}
	host.Fail(cbt.OpChanges, "checkpoint 1 is absent")
	if p := e.admin().get(base).want(409).problem(); p.Detail != "machine "+machine+": checkpoint 1 is absent" {
		t.Errorf("problem = %+v, want why the worker cannot tell", p)
	}
}

func TestEstimate(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.twice()
	var list native.EstimateList
	e.admin().get(path + "/estimate").want(200).read(&list)
	changed := int64(understudy.Changed)
	want := []native.Estimate{{
		Machine: machine, Running: true, InUse: true,
		Volumes: []native.VolumeEstimate{
			{Volume: understudy.Volume(machine, 0), Size: understudy.Size, Changed: &changed}, {Volume: understudy.Volume(machine, 1), Size: understudy.Size},
		},
	}}
	if diff := cmp.Diff(want, list.Items); diff != "" {
		t.Errorf("estimate (-want +got):\n%s", diff)
	}
	host.Fail(cbt.OpProbe, "the machine's process does not answer")
	e.admin().get(path + "/estimate").want(409)
}
