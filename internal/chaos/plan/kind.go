// Package plan decides, from a seed, which faults strike when. It is pure: the
// same seed, duration and kinds give the same plan.
//
//	warm-up │ a worker is lost, the store left in peace │ gap │ one or two faults │ gap │ …
//
// The first act measures the recovery from a lost worker, which is promised for a
// live store. The later ones draw their faults from a deck that holds every kind
// once, so that few seeds cover all of them.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Kind is a kind of fault.
type Kind string

// The kinds of fault.
const (
	KillAPI        Kind = "kill-api"
	KillWorker     Kind = "kill-worker"
	KillTrigger    Kind = "kill-trigger"
	StopWorker     Kind = "stop-worker" // SIGSTOP, later SIGCONT
	KillRedis      Kind = "kill-redis"
	PauseRedis     Kind = "pause-redis"
	PauseRedisLong Kind = "pause-redis-long"
	KillNATS       Kind = "kill-nats"
	PurgeFires     Kind = "purge-fires" // while the api processes stand still, so that there are any
	HoleRedis      Kind = "hole-redis"  // a worker's packets to Redis vanish
	ResetRedis     Kind = "reset-redis"
	HoleNATS       Kind = "hole-nats"
	ResetNATS      Kind = "reset-nats"
	ClockStep      Kind = "clock-step" // of a trigger process
	ClockStepLarge Kind = "clock-step-large"
	DiskFull       Kind = "disk-full" // Redis's
)

const (
	smallStep         = 3 * time.Second
	largeStep         = 90 * time.Second
	lossOfWorker      = 5 * time.Second // without heartbeats
	promisedElsewhere = 10 * time.Second
)

// What a fault strikes. Two faults at once never strike the same thing, but two
// of three workers may go.
type object string

const (
	api     object = "api"
	worker  object = "worker"
	trigger object = "trigger"
	redis   object = "redis"
	nats    object = "nats"
)

// A trait is what is fixed about a kind: what it strikes and how long it lasts.
type trait struct {
	strikes  object
	min, max time.Duration
}

var traits = map[Kind]trait{
	KillAPI:        {api, 1 * time.Second, 4 * time.Second},
	KillWorker:     {worker, 2 * time.Second, 6 * time.Second},
	KillTrigger:    {trigger, 1 * time.Second, 5 * time.Second},
	StopWorker:     {worker, 20 * time.Second, 20 * time.Second},
	KillRedis:      {redis, 500 * time.Millisecond, 3 * time.Second},
	PauseRedis:     {redis, 3 * time.Second, 3 * time.Second},
	PauseRedisLong: {redis, 15 * time.Second, 15 * time.Second},
	KillNATS:       {nats, 1 * time.Second, 5 * time.Second},
	PurgeFires:     {nats, 1500 * time.Millisecond, 2500 * time.Millisecond},
	HoleRedis:      {worker, 3 * time.Second, 12 * time.Second},
	ResetRedis:     {worker, 3 * time.Second, 12 * time.Second},
	HoleNATS:       {worker, 3 * time.Second, 12 * time.Second},
	ResetNATS:      {worker, 3 * time.Second, 12 * time.Second},
	ClockStep:      {trigger, 4 * time.Second, 8 * time.Second},
	ClockStepLarge: {trigger, 4 * time.Second, 8 * time.Second},
	DiskFull:       {redis, 3 * time.Second, 6 * time.Second},
}

// Kinds gives all kinds of fault, by name.
func Kinds() []Kind {
	var all []Kind
	for k := range traits {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// ParseKinds reads a comma list of kinds; "" is all of them.
func ParseKinds(text string) ([]Kind, error) {
	if text == "" {
		return Kinds(), nil
	}
	var out []Kind
	for name := range strings.SplitSeq(text, ",") {
		k := Kind(strings.TrimSpace(name))
		if _, ok := traits[k]; !ok {
			return nil, fmt.Errorf("fault %q is not one of %v", k, Kinds())
		}
		out = append(out, k)
	}
	return out, nil
}

// LosesWorker reports whether a fault of this kind takes a worker's steps from it:
// for a cut, if it lasts long enough.
func (k Kind) LosesWorker() bool {
	switch k {
	case KillWorker, StopWorker, HoleRedis, ResetRedis:
		return true
	}
	return false
}

// HitsStore reports whether a fault of this kind takes away what repairs are made
// with: Redis, or an api process, whose reconciler makes them.
func (k Kind) HitsStore() bool {
	s := traits[k].strikes
	return s == redis || s == api || k == PurgeFires
}

// A Fault is one fault of a plan.
type Fault struct {
	Kind   Kind
	Victim int           // which of the processes it strikes, from 0
	At     time.Duration // from the begin of the load
	For    time.Duration // until it is healed
	Step   time.Duration // of a clock
}

// String tells the fault in one line.
func (f Fault) String() string {
	s := fmt.Sprintf("%6.1fs  %s", f.At.Seconds(), f.Kind)
	if n := traits[f.Kind].strikes; n != redis && n != nats {
		s += fmt.Sprintf(" %s-%d", n, f.Victim+1)
	}
	if f.Step != 0 {
		s += fmt.Sprintf(" by %+ds", int(f.Step.Seconds()))
	}
	if f.For > 0 {
		s += fmt.Sprintf(" for %.1fs", f.For.Seconds())
	}
	return s
}
