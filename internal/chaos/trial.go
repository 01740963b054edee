package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/takt-dev/takt/internal/chaos/judge"
	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/internal/chaos/witness"
)

// calmWithin is how long everything may take to end once all faults are healed:
// an undecided fire is published again after 5 s, and once more after a minute.
const calmWithin = 75 * time.Second

// A trial is one seed's way through the harness.
type trial struct {
	options
	dir   string
	out   io.Writer
	began time.Time

	house   *house
	scene   *scene
	load    *load
	striker *striker
	before  map[string]judge.Use
}

func (t *trial) run(ctx context.Context) error {
	faults := plan.Of(t.seed, t.duration, t.faults)
	fmt.Fprintf(t.out, "chaos: seed %d, %s, %d faults\n", t.seed, t.duration, len(faults))
	var err error
	if t.house, err = build(ctx, t.options, t.dir); err != nil {
		return fmt.Errorf("start the installation: %w", err)
	}
	defer t.clear()
	if t.scene, err = set(ctx, t.house.apis[0].client); err != nil {
		return err
	}
	if err := t.trouble(ctx, faults); err != nil {
		return err
	}
	uncalm := t.calm(ctx)
	e, err := t.collect(ctx, faults)
	if err != nil {
		return errors.Join(uncalm, err)
	}
	r := t.report(e)
	if uncalm != nil {
		r.Violations = append(r.Violations, judge.Violation{Rule: "no calm", Text: uncalm.Error()})
	}
	r.print(t.out)
	for _, path := range []string{filepath.Join(t.dir, "report.json"), t.options.report} {
		if path != "" {
			err = errors.Join(err, r.save(path))
		}
	}
	if len(r.Violations) > 0 {
		err = errors.Join(err, errBroken)
	}
	return err
}

// trouble loads the installation and lets the faults strike.
func (t *trial) trouble(ctx context.Context, faults []plan.Fault) error {
	if err := t.scene.enable(ctx, t.house.apis[0].client, true); err != nil {
		return err
	}
	begin := time.Now()
	running, rest := context.WithDeadline(ctx, begin.Add(t.duration))
	defer rest()
	t.load = newLoad(t.house, t.scene, t.seed)
	t.load.run(ctx, running)
	t.striker = &striker{house: t.house, out: t.out}
	striking := make(chan error, 1)
	go func() { striking <- t.striker.carryOut(ctx, begin, faults) }()

	wait(ctx, time.Until(begin.Add(plan.WarmUp-500*time.Millisecond)))
	t.before = map[string]judge.Use{}
	for _, m := range t.house.members() {
		u, err := use(ctx, m.metrics)
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		t.before[m.name] = u
	}
	<-running.Done()
	return errors.Join(<-striking, ctx.Err())
}

// calm ends the load and waits until nothing is left to do.
func (t *trial) calm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, calmWithin)
	defer cancel()
	fmt.Fprintf(t.out, "  %6.1fs  all is healed, the load ends\n", time.Since(t.began).Seconds())
	c := t.house.apis[0].client
	if err := until(ctx, func() error { return t.scene.enable(ctx, c, false) }); err != nil {
		return err
	}
	if err := t.load.settle(ctx); err != nil {
		return err
	}
	return until(ctx, func() error {
		n, err := openRuns(ctx, c)
		if err != nil || n > 0 {
			return errors.Join(err, fmt.Errorf("%d runs have not ended", n))
		}
		left, err := t.leftovers(ctx)
		if err != nil || len(left) > 0 {
			return errors.Join(err, fmt.Errorf("unfinished in Redis: %v", left))
		}
		return nil
	})
}

func (t *trial) leftovers(ctx context.Context) ([]string, error) {
	partitions, err := t.house.redis.client.Get(ctx, "takt:partitions").Int()
	if err != nil {
		return nil, fmt.Errorf("read the number of partitions: %w", err)
	}
	return leftovers(ctx, t.house.redis.client, partitions)
}

// collect reads the evidence.
func (t *trial) collect(ctx context.Context, faults []plan.Fault) (judge.Evidence, error) {
	e := judge.Evidence{Acks: t.load.acks, Requested: t.load.requested, Faults: t.striker.done, Deaths: t.house.deaths()}
	var errs [5]error
	c := t.house.apis[0].client
	e.Runs, errs[0] = readRuns(ctx, c)
	e.Triggers, errs[1] = readTriggers(ctx, c, t.scene, ahead(faults))
	e.Leftovers, errs[2] = t.leftovers(ctx)
	e.Lines, errs[3] = witness.Read(t.house.witness())
	e.Survivors, errs[4] = t.survivors(ctx)
	e.Need = t.need(e.Faults, len(faults))
	return e, errors.Join(errs[:]...)
}

// ahead gives how far a trigger process's clock went ahead at most.
func ahead(faults []plan.Fault) time.Duration {
	var most time.Duration
	for _, f := range faults {
		most = max(most, f.Step)
	}
	return most
}

func (t *trial) survivors(ctx context.Context) ([]judge.Survivor, error) {
	var out []judge.Survivor
	for _, m := range t.house.members() {
		if m.life() > 1 {
			continue
		}
		u, err := use(ctx, m.metrics)
		if err != nil {
			return nil, err
		}
		out = append(out, judge.Survivor{Name: m.name, Before: t.before[m.name], After: u})
	}
	return out, nil
}

// need is about a third of what the load makes where nothing is in its way.
func (t *trial) need(done []judge.Fault, planned int) judge.Need {
	s := int(t.duration.Seconds())
	n := judge.Need{Acks: s / 2, Executions: 15 * s, Slots: 2 * s, Faults: planned}
	for _, f := range done {
		if judge.InPeace(done, f) {
			n.Recoveries = 1
		}
	}
	return n
}

func (t *trial) report(e judge.Evidence) report {
	r := report{
		Seed: t.seed, Duration: t.duration.String(), Took: round(time.Since(t.began)), Disk: fmt.Sprintf("%T", t.house.disk),
		Faults: map[plan.Kind]int{}, Done: e.Faults, Refused: t.load.refused, Lines: len(e.Lines), Survivors: e.Survivors, Verdict: judge.Of(e),
	}
	for _, f := range e.Faults {
		r.Faults[f.Kind]++
	}
	return r
}

// clear stops the installation. Redis's files are taken from its disk first.
func (t *trial) clear() {
	t.house.stop()
	if err := os.CopyFS(filepath.Join(t.dir, "redis-data"), os.DirFS(t.house.disk.dir())); err != nil {
		fmt.Fprintln(t.out, "keep Redis's files:", err)
	}
	t.house.disk.close()
}
