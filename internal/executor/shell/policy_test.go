package shell

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/takt-dev/takt/pkg/executor"
)

func TestAllowList(t *testing.T) {
	rules, err := compile([]Rule{
		{Path: "/usr/bin/rsync", Args: []string{"-a", "/src/[a-z]+", "/dst/[a-z]+"}},
		{Path: "/usr/bin/rsync", Args: []string{"--version"}},
		{Path: "/usr/bin/du", Args: []string{"-s", "/[a-z/]+..."}},
		{Path: "/usr/bin/echo", Args: []string{"..."}},
		{Path: "/usr/bin/true"},
		{Path: "/opt/a/tool", Args: []string{"a"}},
		{Path: "/opt/b/tool", Args: []string{"b"}},
		{Path: "/usr/bin/either", Args: []string{"start|stop"}},
		{Path: "/usr/bin/any", Args: []string{".*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		argv []string
		path string // "" means refused
		want string // part of the refusal
	}{
		{"exact", []string{"/usr/bin/rsync", "-a", "/src/x", "/dst/y"}, "/usr/bin/rsync", ""},
		{"by name", []string{"rsync", "-a", "/src/x", "/dst/y"}, "/usr/bin/rsync", ""},
		{"second rule of the program", []string{"rsync", "--version"}, "/usr/bin/rsync", ""},
		{"same name, rule decided by arguments", []string{"tool", "b"}, "/opt/b/tool", ""},
		{"same name, full path decides", []string{"/opt/a/tool", "b"}, "", "does not match"},
		{"no arguments", []string{"/usr/bin/true"}, "/usr/bin/true", ""},
		{"no rest", []string{"du", "-s"}, "/usr/bin/du", ""},
		{"a rest", []string{"du", "-s", "/a", "/b/c"}, "/usr/bin/du", ""},
		{"rest of any kind", []string{"echo", "a", "\n", "", "--"}, "/usr/bin/echo", ""},
		{"alternative", []string{"either", "stop"}, "/usr/bin/either", ""},

		{"program not listed", []string{"/bin/sh", "-c", "id"}, "", `{"path": "/bin/sh"`},
		{"name not listed", []string{"sh", "-c", "id"}, "", `{"path": "/path/to/sh"`},
		{"the same file by another path", []string{"/bin/rsync", "--version"}, "", AllowKey},
		{"path that climbs", []string{"/usr/bin/../bin/rsync", "--version"}, "", AllowKey},
		{"path that climbs elsewhere", []string{"/usr/bin/rsync/../../../bin/sh"}, "", AllowKey},
		{"path with a double slash", []string{"/usr//bin/rsync", "--version"}, "", AllowKey},
		{"relative path", []string{"bin/rsync", "--version"}, "", AllowKey},
		{"name as a path", []string{"./rsync", "--version"}, "", AllowKey},
		{"beginning of a name", []string{"rsyn", "--version"}, "", AllowKey},
		{"argument too many", []string{"rsync", "--version", "-e", "sh"}, "", "takes 1, not 3 arguments"},
		{"argument for a program without any", []string{"true", "x"}, "", "takes 0, not 1 arguments"},
		{"argument too few", []string{"rsync", "-a", "/src/x"}, "", AllowKey},
		{"beginning of an argument", []string{"/usr/bin/either", "stopnow"}, "", "does not match"},
		{"end of an argument", []string{"/usr/bin/either", "restart"}, "", "does not match"},
		{"argument that climbs", []string{"rsync", "-a", "/src/x/../../etc", "/dst/y"}, "", AllowKey},
		{"second line of an argument", []string{"either", "start\nx"}, "", "does not match"},
		{"line break at the end", []string{"either", "start\n"}, "", "does not match"},
		{"line break where any character may be", []string{"any", "a\nb"}, "", "does not match"},
		{"rest that does not match", []string{"du", "-s", "/a", "--files0-from=x"}, "", "argument 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, err := find(rules, tt.argv)
			if path != tt.path {
				t.Errorf("find(%q) = %q, %v, want %q", tt.argv, path, err, tt.path)
			}
			if tt.path != "" {
				return
			}
			if !executor.IsPermanent(err) || !strings.Contains(err.Error(), AllowKey) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want a permanent one that names %s and holds %q", err, AllowKey, tt.want)
			}
		})
	}
}

func TestEmptyPolicyAllowsNothing(t *testing.T) {
	typ, err := New(Policy{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = typ.Executor.Execute(t.Context(), executor.Attempt{
		Parameters: map[string]string{"argv": `["/bin/true"]`}, Log: new(strings.Builder),
	})
	want := `to allow it, add to worker.shell.allow an entry such as {"path": "/bin/true"`
	if !executor.IsPermanent(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("Execute = %v, want a permanent error with %q", err, want)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name   string
		policy Policy
		want   string
	}{
		{"relative program", Policy{Rules: []Rule{{Path: "bin/sh"}}}, "absolute"},
		{"unclean program", Policy{Rules: []Rule{{Path: "/bin/../bin/sh"}}}, "absolute"},
		{"malformed pattern", Policy{Rules: []Rule{{Path: "/bin/a"}, {Path: "/bin/b", Args: []string{"x", "["}}}}, "entry 2, \"/bin/b\": argument 2"},
		{"pattern that leaves its parentheses", Policy{Rules: []Rule{{Path: "/bin/a", Args: []string{"a)|(b"}}}}, "argument 1"},
		{"rest before the end", Policy{Rules: []Rule{{Path: "/bin/a", Args: []string{"x...", "y"}}}}, "only the last"},
		{"relative root", Policy{Roots: []string{"var"}}, RootsKey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.policy); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestWorkDir(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, other, outside := filepath.Join(base, "root"), filepath.Join(base, "other"), filepath.Join(base, "rootless")
	for _, dir := range []string{filepath.Join(root, "sub"), other, outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) string {
		path := filepath.Join(base, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	escape := link(outside, "root/escape")
	inner := link(filepath.Join(root, "sub"), "root/inner")
	linkedRoot := link(other, "linked")
	policy := Policy{Roots: []string{root, linkedRoot}}

	tests := []struct {
		name   string
		policy Policy
		dir    string
		real   string // "" means an error
		want   string // part of the error
		passes bool   // the error may pass
	}{
		{"first root by default", policy, "", root, "", false},
		{"root", policy, root, root, "", false},
		{"below a root", policy, root + "/sub", root + "/sub", "", false},
		{"below a root, not clean", policy, root + "/sub/../sub/", root + "/sub", "", false},
		{"link within the root", policy, inner, root + "/sub", "", false},
		{"root that is a link", policy, linkedRoot, other, "", false},
		{"what that root links to", policy, other, other, "", false},
		{"above the root", policy, base, "", "outside", false},
		{"name that begins like the root", policy, outside, "", "outside", false},
		{"climbing out", policy, root + "/../rootless", "", "outside", false},
		{"link that escapes", policy, escape, "", "outside", false},
		{"absent within", policy, root + "/absent", "", "no such file", true},
		{"absent outside", policy, base + "/absent", "", "outside", false},
		{"no roots, no wish", Policy{}, "", "/", "", false},
		{"no roots", Policy{}, root, "", RootsKey, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			real, err := tt.policy.workDir(tt.dir)
			if real != tt.real {
				t.Errorf("workDir(%q) = %q, %v, want %q", tt.dir, real, err, tt.real)
			}
			if tt.real == "" && (err == nil || !strings.Contains(err.Error(), tt.want) || executor.IsPermanent(err) == tt.passes) {
				t.Errorf("error %v, permanent %v, want %q", err, executor.IsPermanent(err), tt.want)
			}
		})
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("HOME", "/home/worker")
	t.Setenv("PASSED", "on")
	t.Setenv("WORKER_SECRET", "hunter2")
	policy := Policy{Env: []string{"LEVEL", "LANG", "TAKT_KEY"}, PassEnv: []string{"PASSED", "ABSENT"}}
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	own := []string{"TAKT_EXECUTION=mark", "TAKT_KEY=run:step"}
	tests := []struct {
		name   string
		policy Policy
		set    map[string]string
		want   []string // nil means refused
	}{
		{"clean", Policy{}, nil, append([]string{"HOME=/home/worker", "LANG=C.UTF-8", path}, own...)},
		{"passed on", policy, nil, append([]string{"HOME=/home/worker", "LANG=C.UTF-8", "PASSED=on", path}, own...)},
		{"set by the job", policy, map[string]string{"LEVEL": "7", "LANG": "de"},
			append([]string{"HOME=/home/worker", "LANG=de", "LEVEL=7", "PASSED=on", path}, own...)},
		{"not listed", policy, map[string]string{"LD_PRELOAD": "x"}, nil},
		{"passed on, not to be set", policy, map[string]string{"PASSED": "x"}, nil},
		{"Takt's own", policy, map[string]string{"TAKT_KEY": "x"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.policy.environ(tt.set, "run:step", "mark")
			if tt.want == nil {
				if !executor.IsPermanent(err) || !strings.Contains(err.Error(), EnvKey) {
					t.Errorf("error %v, want a permanent one that names %s", err, EnvKey)
				}
				return
			}
			slices.Sort(tt.want)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("environ = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
