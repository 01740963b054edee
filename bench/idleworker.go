package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/bench/house"
)

// An idle worker process of its own, at default settings, beside an idle api: the
// commands it sends to Redis, told by MONITOR (those that scripts call are counted
// apart), and its CPU time.
func idleWorker(ctx context.Context, e env) ([]result, error) {
	h, err := house.Open(ctx, house.Options{NoWorker: true})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	w, err := h.SpawnWorker("idle")
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	if err := h.AwaitWorkers(ctx, 1); err != nil {
		return nil, err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return nil, err
	}
	window := time.Duration(e.smokeOr(6, 2)) * time.Second
	var sent, inner, cpu []float64
	var which []string
	for range e.rounds {
		before, err := house.PreciseCPUOf(w.PID())
		if err != nil {
			return nil, err
		}
		began := time.Now()
		m, err := monitor(ctx, h, window)
		if err != nil {
			return nil, err
		}
		after, err := house.PreciseCPUOf(w.PID())
		if err != nil {
			return nil, err
		}
		sent, inner = append(sent, float64(m.sent)/window.Seconds()), append(inner, float64(m.inner)/window.Seconds())
		cpu = append(cpu, float64(after-before)/float64(time.Since(began))*100)
		which = m.table(window)
		e.tell("%s commands/s, %s %% of a core", number(sent[len(sent)-1]), number(cpu[len(cpu)-1]))
	}
	return []result{
		{
			Measure: "idle worker process: commands sent to Redis", Unit: "/s", Values: sent, Bar: atMost(15), Aim: atMost(6),
			Notes: []note{{"commands within scripts, of all processes", "/s", inner}}, Remarks: which,
		},
		{Measure: "idle worker process: CPU", Unit: "% of a core", Values: cpu, Bar: within(1), Aim: within(0.3)},
	}, nil
}

// monitored is what MONITOR told.
type monitored struct {
	sent, inner int
	by          map[string]int // of the worker
}

func (m monitored) table(window time.Duration) []string {
	var out []string
	for name, n := range m.by {
		out = append(out, fmt.Sprintf("%6.2f/s %s", float64(n)/window.Seconds(), name))
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(b, a) })
	return out
}

// monitor listens for a while and counts what connections named takt-worker send.
func monitor(ctx context.Context, h *house.House, window time.Duration) (monitored, error) {
	m := monitored{by: map[string]int{}}
	clients, err := h.Redis.Client.ClientList(ctx).Result()
	if err != nil {
		return m, err
	}
	ours := map[string]bool{}
	for line := range strings.Lines(clients) {
		addr, name := field(line, "addr="), field(line, "name=")
		if name == "takt-worker" {
			ours[addr] = true
		}
	}
	u, err := url.Parse(h.Redis.URL)
	if err != nil {
		return m, err
	}
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		return m, err
	}
	defer nc.Close()
	password, _ := u.User.Password()
	if _, err := fmt.Fprintf(nc, "AUTH %s\r\nMONITOR\r\n", password); err != nil {
		return m, err
	}
	_ = nc.SetReadDeadline(time.Now().Add(window))
	r := bufio.NewReader(nc)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return m, ctx.Err() // the deadline: the time is up
		}
		// +1700000000.123456 [0 127.0.0.1:50000] "evalsha" "…" "1" "key" …
		_, rest, _ := strings.Cut(line, "[")
		who, command, ok := strings.Cut(rest, "] ")
		if !ok {
			continue
		}
		_, addr, _ := strings.Cut(who, " ")
		switch {
		case addr == "lua":
			m.inner++
		case ours[addr]:
			m.sent++
			m.by[shortCommand(command)]++
		}
	}
}

func field(line, name string) string {
	_, rest, _ := strings.Cut(line, " "+name)
	value, _, _ := strings.Cut(rest, " ")
	return value
}

// shortCommand keeps a command's name and, of a script, its first key.
func shortCommand(command string) string {
	words := strings.Fields(strings.ReplaceAll(strings.TrimSpace(command), `"`, ""))
	switch {
	case len(words) > 3 && strings.HasPrefix(words[0], "eval"):
		return words[0] + " " + words[1][:min(8, len(words[1]))] + " " + words[3]
	case len(words) > 1:
		return words[0] + " " + words[1]
	}
	return words[0]
}
