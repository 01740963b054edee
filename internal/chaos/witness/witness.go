// Package witness is the job type of the fault tests and the account it keeps. An
// execution writes a line when it begins and one when it ends, each synced to disk
// before it goes on, into a file of its worker process. So what was executed is
// known from outside: not from Redis, and not from the process that may be killed
// the moment after.
package witness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// JobType is the name of the job type, and Work that of its parameter.
const (
	JobType = "witness"
	Work    = "work"
)

// An Event is what a line tells of an execution.
type Event string

// The events.
const (
	Began   Event = "began"
	Done    Event = "done"    // the work was done to its end
	Stopped Event = "stopped" // its context ended first
)

// A Line is one event of one execution.
type Line struct {
	Event    Event  `json:"event"`
	Run      string `json:"run"`
	Step     int    `json:"step"`
	Attempt  int    `json:"attempt"`
	Dispatch string `json:"dispatch"`
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	At       int64  `json:"at"` // Unix time in nanoseconds
	Cause    string `json:"cause,omitempty"`
}

// Open makes the job type for a worker process, whose lines go to a new file in
// dir.
func Open(dir, host string) (executor.Type, error) {
	name := filepath.Join(dir, fmt.Sprintf("%s.%d.jsonl", host, os.Getpid()))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return executor.Type{}, fmt.Errorf("open witness: %w", err)
	}
	w := &book{file: f, host: host, pid: os.Getpid()}
	return executor.Type{
		Spec: executor.Spec{Type: JobType, Description: "writes down its executions outside Redis", Parameters: []executor.Parameter{
			{Name: Work, Kind: executor.Duration, Description: "how long an execution works; random if absent"},
		}},
		Executor: executor.Func(w.execute),
	}, nil
}

type book struct {
	file *os.File
	host string
	pid  int
}

// Most executions are short; some outlast a second, so that runs of a trigger that
// fires each second overlap, and a fault finds each worker at work.
const (
	shortest = time.Millisecond
	usual    = 200 * time.Millisecond
	longest  = 1500 * time.Millisecond
	longOnes = 8 // one in so many
)

func work(parameters map[string]string) time.Duration {
	if d, err := time.ParseDuration(parameters[Work]); err == nil {
		return d
	}
	if rand.IntN(longOnes) == 0 {
		return longest
	}
	return shortest + rand.N(usual-shortest)
}

func (b *book) execute(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	if err := b.write(Began, a, nil); err != nil {
		return executor.Result{}, err
	}
	timer := time.NewTimer(work(a.Parameters))
	defer timer.Stop()
	select {
	case <-timer.C:
		return executor.Result{}, b.write(Done, a, nil)
	case <-ctx.Done():
		cause := context.Cause(ctx)
		return executor.Result{}, errors.Join(cause, b.write(Stopped, a, cause))
	}
}

// write appends a line, in one write, and syncs it. The time is taken first: an
// execution has begun once its line is on its way.
func (b *book) write(e Event, a executor.Attempt, cause error) error {
	_, step, _ := strings.Cut(a.Key, ":")
	n, err := strconv.Atoi(step)
	if err != nil {
		return executor.Permanent(fmt.Errorf("read step of %q: %w", a.Key, err))
	}
	l := Line{Event: e, Run: a.Run, Step: n, Attempt: a.Number, Dispatch: a.ID, Host: b.host, PID: b.pid, At: time.Now().UnixNano()}
	if cause != nil {
		l.Cause = cause.Error()
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	if _, err := b.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	if err := b.file.Sync(); err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	return nil
}

// Read gives all lines in the files of dir. The last line of a file may be torn,
// as a kill leaves it, and counts as not written; any other that cannot be read
// is an error.
func Read(dir string) ([]Line, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("read witness: %w", err)
	}
	var all []Line
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read witness: %w", err)
		}
		lines, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("read witness %s: %w", filepath.Base(name), err)
		}
		all = append(all, lines...)
	}
	return all, nil
}

func parse(text []byte) ([]Line, error) {
	var lines []Line
	for in := bufio.NewReader(bytes.NewReader(text)); ; {
		row, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		var l Line
		if err := json.Unmarshal(row, &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(lines)+1, err)
		}
		lines = append(lines, l)
	}
}

// AtWork reports whether a host is in the middle of an execution of the long kind, which
// a fault now would cut off.
func AtWork(dir, host string) (bool, error) {
	lines, err := Read(dir)
	if err != nil {
		return false, err
	}
	open := map[string]time.Time{}
	for _, l := range lines {
		switch {
		case l.Host != host:
		case l.Event == Began:
			open[l.Dispatch] = time.Unix(0, l.At)
		default:
			delete(open, l.Dispatch)
		}
	}
	for _, began := range open {
		// Older ones were cut off before, and were never closed.
		if age := time.Since(began); age > usual && age < longest/2 {
			return true, nil
		}
	}
	return false, nil
}
