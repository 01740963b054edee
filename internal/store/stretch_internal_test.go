package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/core"
)

func TestStretchesOf(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		want       []stretch
	}{
		{"none", "", nil},
		{"two, of queues with marks in their names", "0-10:ab12:host.a-b:c\n10-12::low\n", []stretch{{0, 10, "ab12", "host.a-b:c"}, {10, 12, "", "low"}}},
		{"what is broken is left out", "0-10\n5-5:ab:q\n-1-4:ab:q\n7:ab:q\n12-14:ab:q\n", []stretch{{12, 14, "ab", "q"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, stretchesOf(row.text), cmp.AllowUnexported(stretch{})); diff != "" {
				t.Errorf("stretchesOf(%q) (-want +got):\n%s", row.text, diff)
			}
		})
	}
}

func TestReadSentMember(t *testing.T) {
	t.Parallel()
	const run = "0123456789abcdef0123456789abcdef"
	for _, row := range []struct {
		member string
		step   int
		count  int // 0: an error is wanted
	}{
		{run + ":7:3-ab", 7, 1},
		{run + ":7-9:1-ab", 7, 2},
		{stretch{from: 0, to: 500, random: "ab"}.member(run), 0, 500},
		{run + ":9-7:1-ab", 0, 0},
		{run + ":7-9", 0, 0},
		{run, 0, 0},
		{"", 0, 0},
	} {
		first, count, err := readSentMember(row.member)
		if row.count == 0 {
			if err == nil {
				t.Errorf("%q: got %+v of %d, want an error", row.member, first, count)
			}
			continue
		}
		if err != nil || first.Run != run || first.Step != row.step || count != row.count || first.Fence.Random != "ab" {
			t.Errorf("%q: got %+v of %d, %v; want step %d of %d", row.member, first, count, err, row.step, row.count)
		}
	}
}

func TestRowOf(t *testing.T) {
	t.Parallel()
	stretches := stretchesOf("3-5:ab:low\n")
	for _, row := range []struct {
		own  string
		i    int
		want core.StepState
	}{
		{"r|2|cd|1|0|0|low|w|5|0|0|", 3, core.StepRunning},
		{"", 3, core.StepDispatched},
		{"", 4, core.StepDispatched},
		{"", 5, ""},
	} {
		var st core.Step
		if text := rowOf(row.own, stretches, row.i); text != "" {
			if err := decodeStep(text, &st); err != nil {
				t.Fatal(err)
			}
		}
		if st.State != row.want || st.State == core.StepDispatched && (st.Queue != "low" || st.Fence != core.Fence{Counter: 1, Random: "ab"}) {
			t.Errorf("step %d with the row %q: got %+v, want %q", row.i, row.own, st, row.want)
		}
	}
}
