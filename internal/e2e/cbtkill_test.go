package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

// Points of a window at which something dies.
const (
	whileEnabling  = "while it is enabled"
	whileRunning   = "while it runs"
	whileDisabling = "while it is disabled"
	between        = "between two windows"
)

// A product that goes by what it is told has the disks as they were, byte for byte,
// whatever was killed and when. A chain that QEMU took with it is told, and one that it
// did not is not given up; where digests are kept, no chain is.
func TestNothingIsLostSilently(t *testing.T) {
	t.Parallel()
	for _, onBroken := range []string{cbt.OnBrokenFull, cbt.OnBrokenRescan} {
		t.Run(onBroken, func(t *testing.T) {
			t.Parallel()
			nothingIsLost(t, onBroken)
		})
	}
}

func nothingIsLost(t *testing.T, onBroken string) {
	b := newBackup(t, onBroken)
	worker := func() {
		b.worker.kill()
		b.worker.restart()
	}
	emulator := func() {
		b.machine.Kill()
		b.machine.Boot()
	}
	b.scribble(20)
	b.round("first", "", func() {}, false)
	for _, c := range []struct {
		name  string
		kill  func()
		broke bool // the chain
	}{{"worker", worker, false}, {"QEMU", emulator, onBroken == cbt.OnBrokenFull}} {
		for _, at := range []string{whileEnabling, whileRunning, whileDisabling, between} {
			b.round(c.name+" killed "+at, at, c.kill, c.broke)
		}
	}
	b.must(b.remove("/cbt-task/" + b.task))
	b.wantClean()
}

// round writes, makes a backup with something killed on the way, and compares.
func (b *backup) round(what, at string, kill func(), breaks bool) {
	b.house.t.Helper()
	began := time.Now()
	b.scribble(15)
	if at == between {
		kill()
	}
	images := b.images()
	since, mode := b.bitmap, ""
	for try := 1; mode == ""; try++ {
		infos, err := b.during(at == whileEnabling && try == 1, kill, func() ([]cbtInfo, error) { return b.enable(since) })
		if err == nil {
			if at == whileRunning && try == 1 {
				kill()
			}
			err = b.follow(infos)
		}
		switch {
		case err == nil:
			mode = infos[0].Mode
			if mode == "full" && since != "" && infos[0].metadata.ChainBroken == "" {
				b.house.t.Errorf("%s: a full copy without a reason", what)
			}
		case try == 4:
			b.house.t.Fatalf("%s: no backup after %d tries: %v", what, try, err)
		case strings.Contains(err.Error(), "there is no checkpoint"):
			since = "" // it was told that all is to be copied
		default:
			b.house.t.Logf("%s: %v", what, err)
			b.stopped(what)
		}
	}
	b.wantCopies(what, images)
	if !breaks && since != "" && mode != "incremental" {
		b.house.t.Errorf("%s: the copy is %s, want an incremental one: nothing took the chain away", what, mode)
	}
	// By force it would be over before anything can be killed.
	_, err := b.during(at == whileDisabling, kill, func() ([]cbtInfo, error) { return nil, b.disable(at != whileDisabling) })
	if err != nil {
		b.house.t.Logf("%s: %v", what, err)
		b.stopped(what)
	}
	b.house.t.Logf("%s: %s copy in %s", what, mode, time.Since(began).Round(10*time.Millisecond))
}

// during makes a call, and kills something at a random moment of it.
func (b *backup) during(kills bool, kill func(), call func() ([]cbtInfo, error)) ([]cbtInfo, error) {
	b.house.t.Helper()
	if !kills {
		return call()
	}
	type outcome struct {
		infos []cbtInfo
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		infos, err := call()
		done <- outcome{infos, err}
	}()
	b.pause(time.Duration(b.random.IntN(150)) * time.Millisecond)
	kill()
	o := <-done
	return o.infos, o.err
}

// stopped disables until that is done: what was killed may be needed for it.
func (b *backup) stopped(what string) {
	b.house.t.Helper()
	var err error
	for range 5 {
		if err = b.disable(true); err == nil {
			return
		}
	}
	b.house.t.Fatalf("%s: cannot be disabled: %v", what, err)
}
