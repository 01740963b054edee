package id_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/id"
)

// zstackPattern is the pattern ZStack's API states for resourceUuid.
var zstackPattern = regexp.MustCompile(`^[0-9a-f]{12}[1-5][0-9a-f]{3}[89ab][0-9a-f]{15}$`)

var at = time.Date(2026, 3, 29, 1, 30, 0, 123_456_789, time.UTC)

func TestNewIsARandomResourceID(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		u := id.New()
		if !zstackPattern.MatchString(u) || u[12] != '4' {
			t.Fatalf("New() = %q, want a version 4 uuid in ZStack's form", u)
		}
		if seen[u] {
			t.Fatalf("New() returned %q twice", u)
		}
		seen[u] = true
	}
}

func TestValid(t *testing.T) {
	rows := []struct {
		name, in        string
		valid, resource bool
	}{
		{"version 4", "0123456789ab4def8123456789abcdef", true, true},
		{"version 1, variant b", "0123456789ab1defb123456789abcdef", true, true},
		{"version 5", "0123456789ab5defa123456789abcdef", true, true},
		{"version 0", "0123456789ab0def8123456789abcdef", true, false},
		{"version 7 (a run)", "0123456789ab7def8123456789abcdef", true, false},
		{"other variant", "0123456789ab4defc123456789abcdef", true, false},
		{"empty", "", false, false},
		{"31 digits", "0123456789ab4def8123456789abcde", false, false},
		{"33 digits", "0123456789ab4def8123456789abcdef0", false, false},
		{"upper case", "0123456789AB4def8123456789abcdef", false, false},
		{"dashes", "01234567-89ab-4def-8123-456789abcdef", false, false},
		{"not hex", "0123456789ab4def8123456789abcdeg", false, false},
		{"multi-byte", "0123456789ab4def8123456789abcdé", false, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := id.Valid(row.in); got != row.valid {
				t.Errorf("Valid(%q) = %v, want %v", row.in, got, row.valid)
			}
			if got := id.ValidResource(row.in); got != row.resource {
				t.Errorf("ValidResource(%q) = %v, want %v", row.in, got, row.resource)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	const want = "0123456789ab4def8123456789abcdef"
	rows := []struct {
		name, in string
		ok       bool
	}{
		{"already normal", want, true},
		{"upper case", strings.ToUpper(want), true},
		{"dashes", "01234567-89ab-4def-8123-456789abcdef", true},
		{"dashes and upper case", "01234567-89AB-4DEF-8123-456789ABCDEF", true},
		{"dash in the wrong place", "012345678-9ab-4def-8123-456789abcdef", false},
		{"braces", "{01234567-89ab-4def-8123-456789abcdef}", false},
		{"short", want[1:], false},
		{"empty", "", false},
		{"not hex", "g123456789ab4def8123456789abcdef", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, ok := id.Normalize(row.in)
			if ok != row.ok {
				t.Fatalf("Normalize(%q) ok = %v, want %v", row.in, ok, row.ok)
			}
			if ok && got != want || !ok && got != "" {
				t.Errorf("Normalize(%q) = %q, want %q", row.in, got, want)
			}
		})
	}
}

// The values below are stored in every installation: a change here means that
// the new code looks for old rows in the wrong place.
func TestStoredLayoutNeverChanges(t *testing.T) {
	rows := []struct{ name, got, want string }{
		{"derived", id.Derived("takt"), "37b72d911201562a9113cda9a3d2627f"},
		{"derived run", id.DerivedRun(at, 11, "takt"), "019d3736523b762a9113cda9a3d2620b"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.got != row.want {
				t.Errorf("got %q, want %q", row.got, row.want)
			}
		})
	}
	for uuid, want := range map[string]int{
		"":                                 5,
		"0123456789ab4def8123456789abcdef": 14,
		"ffffffffffff4fffbfffffffffffffff": 3,
	} {
		if got := id.Partition(uuid, 16); got != want {
			t.Errorf("Partition(%q, 16) = %d, want %d", uuid, got, want)
		}
	}
}

func TestPartitionSpreadsEvenly(t *testing.T) {
	const n, draws = 16, 16_000
	var count [n]int
	for range draws {
		count[id.Partition(id.New(), n)]++
	}
	for p, c := range count {
		if c < draws/n*3/4 || c > draws/n*5/4 {
			t.Errorf("partition %d holds %d of %d ids, want about %d", p, c, draws, draws/n)
		}
	}
	for _, n := range []int{-1, 0, 1} {
		if got := id.Partition("x", n); got != 0 {
			t.Errorf("Partition(x, %d) = %d, want 0", n, got)
		}
	}
}

func TestRunNamesItsPartitionAndTime(t *testing.T) {
	for _, p := range []int{0, 1, 15, 16, 255} {
		for name, run := range map[string]string{"Run": id.Run(at, p), "DerivedRun": id.DerivedRun(at, p, "s")} {
			got, ok := id.RunPartition(run)
			if !ok || got != p {
				t.Errorf("RunPartition(%s(_, %d)) = %d, %v, want %d, true", name, p, got, ok, p)
			}
			when, ok := id.RunTime(run)
			if want := at.Truncate(time.Millisecond); !ok || !when.Equal(want) {
				t.Errorf("RunTime(%s) = %v, %v, want %v, true", name, when, ok, want)
			}
		}
	}
	for _, s := range []string{"", id.New(), id.Derived("x"), strings.ToUpper(id.Run(at, 1))} {
		if _, ok := id.RunPartition(s); ok {
			t.Errorf("RunPartition(%q) accepted an id that is no run's", s)
		}
		if _, ok := id.RunTime(s); ok {
			t.Errorf("RunTime(%q) accepted an id that is no run's", s)
		}
	}
}

func TestRunSortsByTime(t *testing.T) {
	last := ""
	for i := range 1_000 {
		run := id.Run(at.Add(time.Duration(i)*time.Millisecond), 255-i%256)
		if run <= last {
			t.Fatalf("run %d: %q does not sort after %q", i, run, last)
		}
		last = run
	}
}

func TestDerivedRunDependsOnAllItsInputs(t *testing.T) {
	base := id.DerivedRun(at, 3, "slot")
	if again := id.DerivedRun(at, 3, "slot"); again != base {
		t.Errorf("equal inputs gave %q and %q", base, again)
	}
	for name, other := range map[string]string{
		"time":      id.DerivedRun(at.Add(time.Millisecond), 3, "slot"),
		"partition": id.DerivedRun(at, 4, "slot"),
		"seed":      id.DerivedRun(at, 3, "slot2"),
	} {
		if other == base {
			t.Errorf("another %s gave the same id %q", name, base)
		}
	}
}

func TestRunRefusesAPartitionThatDoesNotFit(t *testing.T) {
	for _, p := range []int{-1, id.MaxPartitions} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Run(_, %d) did not panic", p)
				}
			}()
			id.Run(at, p)
		}()
	}
}

func TestFence(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{16}$`)
	a, b := id.Fence(), id.Fence()
	if !form.MatchString(a) || !form.MatchString(b) || a == b {
		t.Errorf("Fence() = %q, then %q, want two different 16-digit hex numbers", a, b)
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"", "0123456789ab4def8123456789abcdef", "01234567-89AB-4DEF-8123-456789ABCDEF", "----"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := id.Normalize(s)
		if ok != id.Valid(got) {
			t.Errorf("Normalize(%q) = %q, %v, but Valid says %v", s, got, ok, id.Valid(got))
		}
		if ok && got != strings.ToLower(strings.ReplaceAll(s, "-", "")) {
			t.Errorf("Normalize(%q) = %q: other digits", s, got)
		}
		if id.ValidResource(s) != zstackPattern.MatchString(s) {
			t.Errorf("ValidResource(%q) = %v, ZStack's pattern disagrees", s, id.ValidResource(s))
		}
		if p := id.Partition(s, 16); p < 0 || p > 15 {
			t.Errorf("Partition(%q, 16) = %d", s, p)
		}
	})
}

func FuzzRunPartition(f *testing.F) {
	f.Add("", int64(0), uint8(0))
	f.Add("0123456789ab7def8123456789abcdef", int64(1_774_000_000_000), uint8(255))
	f.Fuzz(func(t *testing.T, s string, ms int64, p uint8) {
		if n, ok := id.RunPartition(s); ok && (n < 0 || n >= id.MaxPartitions) {
			t.Errorf("RunPartition(%q) = %d", s, n)
		}
		run := id.DerivedRun(time.UnixMilli(ms&(1<<48-1)), int(p), s)
		if n, ok := id.RunPartition(run); !ok || n != int(p) {
			t.Errorf("RunPartition(%q) = %d, %v, want %d", run, n, ok, p)
		}
		if when, ok := id.RunTime(run); !ok || when.UnixMilli() != ms&(1<<48-1) {
			t.Errorf("RunTime(%q) = %v, %v, want %d ms", run, when, ok, ms)
		}
	})
}
