package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/testenv"
)

// A victim is a child process that can be killed and started again.
type victim struct {
	h   *house
	o   orders
	cmd *exec.Cmd
}

func (h *house) process(o orders) *victim {
	h.t.Helper()
	o.Redis, o.NATS = h.url, h.nats.URL
	p := &victim{h: h, o: o}
	p.restart()
	h.t.Cleanup(func() { p.kill() })
	return p
}

func (p *victim) restart() {
	p.h.t.Helper()
	text, err := json.Marshal(p.o)
	if err != nil {
		p.h.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), ordersVar+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		p.h.t.Fatal(err)
	}
}

// kill ends the process as a power cut would.
func (p *victim) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// term tells the process to end, as its supervisor would.
func (p *victim) term() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// freeze stops the process in its tracks until thaw.
func (p *victim) freeze() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

func (p *victim) thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// lostElsewhere waits, after a worker was killed, until none of its attempts is
// under way any more: each has been taken over. It fails after the promised time.
func (h *house) lostElsewhere(p *victim) {
	h.t.Helper()
	if p.o.Role != "worker-process" {
		return
	}
	killed := time.Now()
	testenv.Eventually(h.t, elsewhere, func() error {
		f, err := h.store.Fleet(h.ctx)
		if err != nil {
			return err
		}
		held := 0
		for n := range h.store.Partitions() {
			live, err := h.store.Live(h.ctx, n)
			if err != nil {
				return err
			}
			for _, u := range live {
				if f.Workers[u.Worker].Host == p.o.Host {
					held++
				}
			}
		}
		if held > 0 {
			return fmt.Errorf("%d attempts of the killed worker are not taken over", held)
		}
		return nil
	})
	h.t.Logf("steps of the killed worker were elsewhere after %s", time.Since(killed).Round(10*time.Millisecond))
}
