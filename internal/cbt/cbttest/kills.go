package cbttest

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
)

// RunKills destroys the machine at each step of each method: Lose is called in the
// middle of it. From then on every question about the chain has to be answered with
// its loss, whatever there was, and a new chain has to work.
func RunKills(t *testing.T, new New) {
	cases := []struct {
		name string
		call func(c *chain, s cbt.Session) error
		open bool // the session is open before
	}{
		{"checkpoint", func(c *chain, s cbt.Session) error {
			_, err := c.Driver().Checkpoint(c.t.Context(), c.target, s.Seq)
			return err
		}, false},
		{"open", func(c *chain, s cbt.Session) error {
			_, _, err := c.Driver().Open(c.t.Context(), c.target, s)
			return err
		}, false},
		{"close", func(c *chain, s cbt.Session) error {
			return c.Driver().Close(c.t.Context(), c.target, s)
		}, true},
		{"changes", func(c *chain, s cbt.Session) error {
			_, err := c.changes(cbt.Span{From: s.From}, cbt.Cursor{})
			return err
		}, false},
		{"trim", func(c *chain, s cbt.Session) error {
			return c.Driver().Trim(c.t.Context(), c.target)
		}, false},
	}
	for _, one := range cases {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			bench := new(t, 1, diskSize)
			c := &chain{t: t, Bench: bench, target: bench.Target(), random: rand.New(rand.NewPCG(3, 4))}
			killed := true
			for at := 0; killed; at++ {
				c.target.Chain = nil
				c.must(c.Driver().Trim(t.Context(), c.target))
				s := cbt.Session{Seq: 10*at + 2, From: 10*at + 1, Token: token}
				c.mark(s.From)
				c.scribble(2)
				if one.open {
					c.open(s)
				}
				if killed = c.kill(at, func() error { return one.call(c, s) }); killed {
					c.lost(s)
				}
			}
		})
	}
}

// kill calls a method and destroys the machine at a step, counted from 0. False: the
// method takes fewer steps, and is done.
func (c *chain) kill(at int, call func() error) (killed bool) {
	c.t.Helper()
	c.Hook(func(string) {
		if at--; at == -1 {
			killed = true
			c.Lose()
		}
	})
	err := call()
	c.Revive()
	if broken := (*cbt.ChainBroken)(nil); err != nil && (!killed || !cbt.Retryable(err) && !errors.As(err, &broken)) {
		c.t.Errorf("got error %v of a machine that was killed, want one that says so", err)
	}
	return killed
}

// lost checks that nothing is said about a lost chain but that.
func (c *chain) lost(s cbt.Session) {
	c.t.Helper()
	report, err := c.Driver().Probe(c.t.Context(), c.target)
	c.must(err)
	if report.Broken == nil || report.Session {
		c.t.Errorf("Probe says of a lost chain: %+v", report)
	}
	_, err = c.Driver().Checkpoint(c.t.Context(), c.target, s.Seq+1)
	c.broken(err, cbt.WhyAbsent)
	_, _, err = c.Driver().Open(c.t.Context(), c.target, s)
	c.broken(err, cbt.WhyAbsent)
	_, err = c.changes(cbt.Span{From: s.From}, cbt.Cursor{})
	c.broken(err, cbt.WhyAbsent)
	c.must(c.Driver().Close(c.t.Context(), c.target, s))
	files, err := os.ReadDir(c.target.Dir)
	c.must(err)
	for _, f := range files {
		if strings.HasPrefix(f.Name(), cbt.Prefix) {
			c.t.Errorf("%s is left", f.Name())
		}
	}
}
