package house

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is CPU time and Redis commands at a moment.
type Usage struct {
	Go       time.Duration // of this process
	Redis    time.Duration // of redis-server, its background threads included
	NATS     time.Duration
	Machine  time.Duration // of all processes, and what the host took from us
	Commands map[string]Command
	Reads    float64 // times that Redis read from a socket: about the round trips
}

// Command is what Redis counts of one command.
type Command struct {
	Calls float64
	Micro float64 // CPU in µs, as Redis measures it
}

// Usage reads what was used so far.
func (h *House) Usage(ctx context.Context) (Usage, error) {
	u, err := h.Redis.Usage(ctx)
	if err == nil && h.NATS != nil {
		u.NATS, err = CPUOf(h.NATS.PID())
	}
	return u, err
}

// Usage reads what this process and the server used so far.
func (r *Redis) Usage(ctx context.Context) (Usage, error) {
	u := Usage{Commands: map[string]Command{}}
	info, err := r.Info(ctx, "everything")
	if err != nil {
		return u, err
	}
	number := func(field string) float64 {
		n, _ := strconv.ParseFloat(info[field], 64)
		return n
	}
	u.Redis = time.Duration((number("used_cpu_user") + number("used_cpu_sys")) * float64(time.Second))
	u.Reads = number("total_reads_processed")
	for k, v := range info {
		name, ok := strings.CutPrefix(k, "cmdstat_")
		if !ok {
			continue
		}
		var c Command
		for field := range strings.SplitSeq(v, ",") {
			switch key, value, _ := strings.Cut(field, "="); key {
			case "calls":
				c.Calls, _ = strconv.ParseFloat(value, 64)
			case "usec":
				c.Micro, _ = strconv.ParseFloat(value, 64)
			}
		}
		u.Commands[name] = c
	}
	u.Go = Self()
	u.Machine, err = machineCPU()
	return u, err
}

// Sub gives what was used since before.
func (u Usage) Sub(before Usage) Usage {
	d := Usage{
		Go: u.Go - before.Go, Redis: u.Redis - before.Redis, NATS: u.NATS - before.NATS, Machine: u.Machine - before.Machine,
		Reads: u.Reads - before.Reads, Commands: map[string]Command{},
	}
	for name, c := range u.Commands {
		c.Calls -= before.Commands[name].Calls
		c.Micro -= before.Commands[name].Micro
		if c.Calls > 0 {
			d.Commands[name] = c
		}
	}
	return d
}

// Others is what neither this process nor its servers used: a measurement beside
// which somebody else works is worth little.
func (u Usage) Others() time.Duration { return max(0, u.Machine-u.Go-u.Redis-u.NATS) }

// machineCPU is the busy time of all cores since the start of the machine; 0 where
// there is no /proc/stat.
func machineCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var sum int64
	// cpu user nice system idle iowait irq softirq steal guest guest_nice
	for i, f := range strings.Fields(first) {
		if i >= 1 && i <= 8 && i != 4 && i != 5 {
			n, _ := strconv.ParseInt(f, 10, 64)
			sum += n
		}
	}
	return time.Duration(sum) * tick, nil
}

// Self is the CPU time of this process.
func Self() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// tick is the unit of /proc/<pid>/stat on Linux.
const tick = 10 * time.Millisecond

// CPUOf is the CPU time of another process, in steps of 10 ms.
func CPUOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, nil
}

// PreciseCPUOf is the CPU time of another process in nanoseconds, as the scheduler
// counts it for each of its threads. Threads that have ended do not count: it is
// for processes at rest.
func PreciseCPUOf(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("read CPU time of process %d: it is gone, or this is not Linux", pid)
	}
	var sum int64
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(first, 10, 64)
		sum += n
	}
	return time.Duration(sum), nil
}

// ChildrenOf lists the processes that a process has started.
func ChildrenOf(pid int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		if len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			out = append(out, child)
		}
	}
	return out, nil
}
