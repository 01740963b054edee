package house

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestScriptsAreSummed(t *testing.T) {
	run := "takt:{p:3}:run:0123456789abcdef0123456789abcdef"
	got := sumScripts([]redis.SlowLog{
		{Args: []string{"evalsha", "aaaaaaaaaa", "1", run}, Duration: 3 * time.Microsecond},
		{Args: []string{"evalsha", "aaaaaaaaaa", "1", "takt:{p:4}:run:ffffffffffffffffffffffffffffffff"}, Duration: 4 * time.Microsecond},
		{Args: []string{"HGET", run, "s1"}, Duration: time.Microsecond},
	})
	want := []Script{{"aaaaaaaa takt:{…}:run:…", 2, 7 * time.Microsecond}, {"HGET", 1, time.Microsecond}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUsageSub(t *testing.T) {
	before := Usage{Go: 1, Redis: 2, Commands: map[string]Command{"get": {Calls: 5, Micro: 10}, "set": {Calls: 1, Micro: 1}}}
	after := Usage{Go: 4, Redis: 7, Machine: 20, Commands: map[string]Command{"get": {Calls: 8, Micro: 16}, "set": {Calls: 1, Micro: 1}}}
	d := after.Sub(before)
	if d.Go != 3 || d.Redis != 5 || d.Others() != 12 {
		t.Errorf("got %d, %d and %d for others, want 3, 5 and 12", d.Go, d.Redis, d.Others())
	}
	if len(d.Commands) != 1 || d.Commands["get"] != (Command{3, 6}) {
		t.Errorf("commands = %v, want three calls of get in 6 µs", d.Commands)
	}
}

func TestChildrenAndTheirTime(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("needs Linux's /proc with schedstat")
	}
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = child.Wait() }()
	all, err := ChildrenOf(os.Getpid())
	if err != nil || !slices.Contains(all, child.Process.Pid) {
		t.Errorf("children = %v, %v, want %d among them", all, err, child.Process.Pid)
	}
	used, err := PreciseCPUOf(child.Process.Pid)
	if err != nil || used <= 0 || used > time.Minute {
		t.Errorf("CPU time of the child = %v, %v", used, err)
	}
	if _, err := PreciseCPUOf(1 << 30); err == nil {
		t.Error("no error for a process that is not there")
	}
}
