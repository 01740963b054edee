package cbt

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testTask = "0123456789abcdef0123456789abcdef"

func goodTarget() Target {
	return Target{Task: testTask, Dir: "/vm", Disks: []Disk{{Volume: "v", Path: "/vm/d", Format: FormatRaw}}}
}

func TestTargetCheck(t *testing.T) {
	t.Parallel()
	if err := goodTarget().Check(); err != nil {
		t.Fatalf("a good target: %v", err)
	}
	cases := []struct {
		name string
		do   func(*Target)
		want string
	}{
		{"task", func(t *Target) { t.Task = "../../../etc" }, "not a uuid"},
		{"short task", func(t *Target) { t.Task = "0123" }, "not a uuid"},
		{"granularity", func(t *Target) { t.Granularity = 5000 }, "power of two"},
		{"small granularity", func(t *Target) { t.Granularity = 256 }, "power of two"},
		{"large granularity", func(t *Target) { t.Granularity = 1 << 40 }, "power of two"},
		{"directory", func(t *Target) { t.Dir = "vm" }, "not absolute"},
		{"no disks", func(t *Target) { t.Disks = nil }, "no disks"},
		{"format", func(t *Target) { t.Disks[0].Format = "vmdk" }, "neither raw nor qcow2"},
		{"path", func(t *Target) { t.Disks[0].Path = "d" }, "not absolute"},
		{"TCP without TLS", func(t *Target) { t.Listen = Listen{Host: "::1", Port: 10809} }, "TLS"},
		{"TCP without a port", func(t *Target) { t.Listen = Listen{Host: "::1", Certs: "/certs"} }, "port"},
		{"a chain from 0", func(t *Target) { t.Chain = Chain{{Seq: 0}} }, "rise"},
		{"a chain that falls", func(t *Target) { t.Chain = Chain{{Seq: 2}, {Seq: 2}} }, "rise"},
	}
	for _, c := range cases {
		target := goodTarget()
		c.do(&target)
		if err := target.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestSessionCheck(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("0f", 8)
	for _, bad := range []Session{
		{Seq: 0, Token: token}, {Seq: 1, From: 1, Token: token}, {Seq: 2, From: -1, Token: token},
		{Seq: 1}, {Seq: 1, Token: "0f"}, {Seq: 1, Token: strings.Repeat("/.", 8)},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken for a session", bad)
		}
	}
	if err := (Session{Seq: 2, From: 1, Token: token}).Check(); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	uuid := "01234567-89AB-cdef-0123-456789abcdef"
	if got := CheckpointName(uuid, 12); got != "cbt-0123456789ab-12" {
		t.Errorf("got %s", got)
	}
	if task, seq, ok := ParseCheckpoint("cbt-0123456789ab-12"); task != "0123456789ab" || seq != 12 || !ok {
		t.Errorf("got %s, %d, %v", task, seq, ok)
	}
	for _, foreign := range []string{"", "cbt-", "cbt-0123456789ab", "cbt-0123456789ab-", "cbt-0123456789ab-x", "cbt-0123456789ab-0", "cbt-0123456789ab-12j0", "cbt-0123456789AB-1", "cbt-012345678-1", "backup-0123456789ab-1"} {
		if _, _, ok := ParseCheckpoint(foreign); ok {
			t.Errorf("%q is taken for a checkpoint", foreign)
		}
	}
	if task, rest, ok := ParseName("cbt-0123456789ab-12j0"); task != "0123456789ab" || rest != "12j0" || !ok {
		t.Errorf("got %s, %s, %v", task, rest, ok)
	}
	if n := len(CheckpointName(uuid, 99_999_999) + "s00f"); n > 31 {
		t.Errorf("a node's name takes %d characters, QEMU allows 31", n)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	chain := Chain{{Seq: 1}, {Seq: 2}, {Seq: 5}}
	cases := []struct {
		span Span
		want []int
		why  Why
		err  error
	}{
		{span: Span{From: 1}, want: []int{1, 2, 5}},
		{span: Span{From: 1, To: 5}, want: []int{1, 2}},
		{span: Span{From: 2, To: 2}},
		{span: Span{From: 5}, want: []int{5}},
		{span: Span{From: 3}, why: WhyUnknown},
		{span: Span{From: 1, To: 3}, why: WhyUnknown},
		{span: Span{From: 5, To: 1}, err: ErrUnsupported},
	}
	for _, c := range cases {
		points, err := chain.Points(c.span)
		var got []int
		for _, p := range points {
			got = append(got, p.Seq)
		}
		broken := (*ChainBroken)(nil)
		switch {
		case c.why != "" && (!errors.As(err, &broken) || broken.Why != c.why):
			t.Errorf("%+v: got error %v, want %s", c.span, err, c.why)
		case c.why == "" && !errors.Is(err, c.err):
			t.Errorf("%+v: got error %v, want %v", c.span, err, c.err)
		case !cmp.Equal(got, c.want):
			t.Errorf("%+v: got %v, want %v", c.span, got, c.want)
		}
	}
	if chain.Before(5) != 2 || chain.Before(1) != 0 || chain.Before(9) != 5 || chain.Last() != 5 || Chain(nil).Last() != 0 {
		t.Error("the neighbors in a chain are wrong")
	}
	if got := chain.Without(2); got.Has(2) || len(got) != 2 || len(chain) != 3 {
		t.Errorf("got %v, and the chain is %v", got, chain)
	}
}

func TestExportURI(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]Export{
		"nbd+unix:///name?socket=%2Fvm%2Fnbd.sock": {Network: "unix", Address: "/vm/nbd.sock", Name: "name"},
		"nbds://10.0.0.1:10809/name":               {Network: "tcp", Address: "10.0.0.1:10809", Name: "name"},
	} {
		if got := e.URI(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
