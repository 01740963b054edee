package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/testenv"
)

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	p, err := newProgram(dir, "sleeper", func() *exec.Cmd { return exec.Command("sleep", "1000") })
	if err != nil {
		t.Fatal(err)
	}
	for life := 1; life <= 2; life++ {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		if !p.alive() || p.life() != life {
			t.Errorf("alive %v in life %d, want life %d", p.alive(), p.life(), life)
		}
		p.kill()
		if p.alive() {
			t.Error("it is alive after the kill")
		}
	}
	if got := p.unordered(); got != nil {
		t.Errorf("ordered ends are told as %v", got)
	}

	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGKILL) // not by kill: nobody ordered it
	testenv.Eventually(t, 10*time.Second, func() bool { return len(p.unordered()) == 1 })
	log, err := os.ReadFile(filepath.Join(dir, "sleeper.log"))
	if err != nil || strings.Count(string(log), "begins") != 3 || strings.Count(string(log), "ends") != 3 {
		t.Errorf("the log of three lives is %q (%v)", log, err)
	}
}

func TestStoppedProgramCanBeStopped(t *testing.T) {
	p, err := newProgram(t.TempDir(), "sleeper", func() *exec.Cmd { return exec.Command("sleep", "1000") })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	heal := stopped(p)
	if err := heal(t.Context()); err != nil || !p.alive() {
		t.Errorf("healing gave %v, alive %v", err, p.alive())
	}
	stopped(p)
	p.stop(10 * time.Second)
	if p.alive() {
		t.Error("it is alive after the stop")
	}
}
