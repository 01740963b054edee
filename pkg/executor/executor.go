// Package executor is the contract between Takt and the code that does the
// real work of a job.
//
// An Executor carries out attempts of one job type. The worker process calls
// it; it never sees runs, queues or Redis. A Spec says, as plain data, what the
// type is called and which parameters it takes, so that an API process that
// does not hold the executor's code can still refuse a bad job when it is
// created. An Executor and its Spec together are a Type.
//
// Rules that every executor keeps (package executortest checks them):
//
//   - Execute returns soon after its context ends, and leaves nothing behind
//     that goes on working: no goroutine, no child process.
//   - Execute may be called many times at once.
//   - Step execution is at least once: after a crash the same step may be
//     executed again, with another Attempt.ID. Executors whose effect must not
//     happen twice use Attempt.Key, which is the same for every attempt of a step.
//   - A failure is an error. An error marked by Permanent is not tried again,
//     every other one is, as far as the job's retry policy goes.
//
// The package imports the standard library only.
package executor

import (
	"context"
	"errors"
	"io"
	"time"
)

// An Executor does the work of one job type.
type Executor interface {
	// Execute carries out one attempt and returns its result. ctx ends when the
	// attempt is cancelled, times out or is released at shutdown;
	// context.Cause(ctx) tells which (ErrCanceled, ErrTimedOut, ErrReleased). An
	// attempt cut short returns an error that is not Permanent, best one that
	// wraps the cause. A Result returned beside an error is kept with the failed
	// attempt.
	Execute(ctx context.Context, a Attempt) (Result, error)
}

// Func lets an ordinary function be an Executor.
type Func func(ctx context.Context, a Attempt) (Result, error)

// Execute calls f.
func (f Func) Execute(ctx context.Context, a Attempt) (Result, error) { return f(ctx, a) }

// An Attempt is one execution of one step.
type Attempt struct {
	// ID names this attempt alone: "<run>:<step>:<fence>".
	ID string
	// Key is the same for all attempts of the step: "<run>:<step>". It serves
	// as an idempotency key towards other systems.
	Key string
	// Number counts the step's attempts from 1, those lost with a worker included.
	Number int
	// Run is the uuid of the run, Job the uuid of the job.
	Run, Job string
	// Type is the job type, Target the uuid of what the job acts on, or "".
	Type, Target string
	// Parameters are the job's parameters, already valid by the type's Spec. The
	// map may be nil and is not to be changed.
	Parameters map[string]string
	// Deadline is when ctx will time out; zero means never.
	Deadline time.Time
	// Log takes live log output, best in whole lines. It is never nil, may be
	// used by several goroutines at once, never blocks for long and never fails.
	// Nothing is to be written after Execute has returned.
	Log io.Writer
	// Progress takes how much of the work is done and how much there is in all, in
	// units of the executor's choice, for those who watch the step. It may be called at
	// any rate by several goroutines at once; the last call counts. nil where nobody
	// listens.
	Progress func(done, total int64)
}

// MaxOutputBytes is the length to which a Result's Output is cut. Package
// excerpt helps an executor to stay below it, which JSON has to: cut, it cannot
// be read any more.
const MaxOutputBytes = 64 << 10

// A Result is what an attempt leaves behind.
type Result struct {
	// Output is shown in the step's history; JSON or text. It is cut to
	// MaxOutputBytes, or to what the Type says.
	Output string
	// ExitCode is the exit code of a command or the status of an answer; 0 when
	// the type has none.
	ExitCode int
}

// A Type is a job type together with the code that executes it.
type Type struct {
	Spec     Spec
	Executor Executor
	// MaxOutput is the length in bytes to which the outputs of this type are cut; 0 is
	// MaxOutputBytes. Outputs are kept in memory until the run is forgotten.
	MaxOutput int
}

// Causes of an attempt's context: compare context.Cause by errors.Is, since it may say
// more, as "timed out after 5s" does.
var (
	// ErrCanceled means that somebody cancelled the run or the step.
	ErrCanceled = errors.New("canceled")
	// ErrTimedOut means that the job's timeout passed.
	ErrTimedOut = errors.New("timed out")
	// ErrReleased means that the worker is stopping or has lost contact: the
	// attempt does not count and the step is executed elsewhere.
	ErrReleased = errors.New("released")
)

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks err as one that no further attempt can mend. Permanent(nil)
// is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether err, or an error it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}
