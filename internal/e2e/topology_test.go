package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/testenv"
)

// What is promised of a fail-over of Redis Cluster and of Sentinel, where a master
// dies with writes that no replica had:
//
//   - Takt goes on by itself. Within resumes of the moment the new master takes
//     writes, new slots fire and their runs end.
//   - No run stays stuck: each ends within settles.
//   - Each slot has exactly one entry in the ledger, those of the outage included:
//     a slot's entry and the trigger's next slot are one write.
//   - Lost writes repeat work: a step may run again, a slot may be fired again. A
//     run whose admission is lost is lost, though the ledger of a trigger, which
//     may lie on another master of a Cluster, names it. Two timelines never mix:
//     see TestTwoTimelinesDoNotMix.
const (
	resumes = 10 * time.Second
	settles = 30 * time.Second
)

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := testenv.Cluster(t)
	h := newHouseAt(t, c.URL, brief.Spec)
	h.throughFailOver(c.Replicated, c.FailOver)
}

func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	s := testenv.Sentinel(t)
	h := newHouseAt(t, s.URL, brief.Spec)
	h.throughFailOver(s.Replicated, func(string) (killed, back time.Time) { return s.FailOver() })
}

// throughFailOver runs two of each process under steady load, kills the master
// that has the partition of one of the groups and checks what is promised.
func (h *house) throughFailOver(replicated func(), failOver func(key string) (killed, back time.Time)) {
	h.released = true
	site := h.api()
	h.process(orders{Role: "api-process"})
	for _, host := range []string{"one", "two"} {
		h.process(orders{Role: "worker-process", Host: host})
		h.process(orders{Role: "trigger-process"})
	}
	h.awaitWorkers(2)
	const jobs = 10
	struck, other := h.group("brief", jobs), h.group("brief", jobs)
	a := h.cronEachSecond(struck, core.Overlap{Policy: core.OverlapAllow})
	b := h.cronEachSecond(other, core.Overlap{Policy: core.OverlapSkipSteps})
	enabledA, enabledB := h.setEnabled(a, true), h.setEnabled(b, true)
	h.firedAfter(a, enabledA, 10*time.Second)
	h.firedAfter(b, enabledB, 10*time.Second)

	replicated()
	safe := time.Now()
	killed, back := failOver(h.root(struck))
	h.t.Logf("the fail-over took %s", back.Sub(killed).Round(10*time.Millisecond))
	for _, tr := range []core.Trigger{a, b} {
		h.firedAfter(tr, back, resumes)
	}
	h.t.Logf("fires and runs went on %s after it", time.Since(back).Round(10*time.Millisecond))
	h.pause(3 * time.Second)

	disabledA, disabledB := h.setEnabled(a, false), h.setEnabled(b, false)
	inDoubt := func(slot time.Time) bool { return slot.After(safe.Add(-2*time.Second)) && slot.Before(back) }
	h.compareAfterFailOver(a, jobs, enabledA, disabledA, inDoubt)
	h.compareAfterFailOver(b, jobs, enabledB, disabledB, inDoubt)
	site.look(h, a)
	h.deleteAll(a, struck)
	h.deleteAll(b, other)
}

// root gives the key whose slot in a cluster is that of a target's rows.
func (h *house) root(target string) string {
	run := h.store.NewRunID(target, time.Now(), "")
	n, _ := strconv.ParseInt(run[30:], 16, 0)
	return fmt.Sprintf("takt:{p:%d}:run", n)
}

// firedAfter waits until a slot after an instant was fired and its run has ended.
func (h *house) firedAfter(tr core.Trigger, at time.Time, within time.Duration) {
	h.t.Helper()
	testenv.Eventually(h.t, within, func() error {
		entries, err := h.eng.Ledger(h.ctx, tr.UUID, time.Time{}, time.Time{}, 0, 1000)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.From.After(at) || len(e.Runs) != 1 {
				continue
			}
			if r, err := h.eng.Run(h.ctx, e.Runs[0]); err == nil && r.State == core.RunSucceeded {
				return nil
			}
		}
		return fmt.Errorf("%s: no slot after %s has a run that succeeded", tr.Name, at.Format(time.StampMilli))
	})
}

// compareAfterFailOver checks that each slot between enable and disable has
// exactly one entry, that it was fired, and that its run has ended well. Only the
// run of a slot in doubt may be missing.
func (h *house) compareAfterFailOver(tr core.Trigger, jobs int, enabled, disabled time.Time, inDoubt func(time.Time) bool) {
	h.t.Helper()
	entries := h.settledLedger(tr)
	runs := h.allRuns(tr)
	slots, lost, again := 0, 0, 0
	for s := enabled.Truncate(time.Second).Add(time.Second); !s.After(disabled); s = s.Add(time.Second) {
		slots++
		e, ok := entries[s]
		if !ok || (e.Decision != core.Fired && e.Decision != core.Late) || len(e.Runs) != 1 || e.Count != 1 {
			h.t.Errorf("%s: slot %s has the entry %+v, want it fired with one run", tr.Name, s, e)
			continue
		}
		if _, ok := runs[e.Runs[0]]; !ok {
			lost++
			if !inDoubt(s) {
				h.t.Errorf("%s: run %s of slot %s is gone", tr.Name, e.Runs[0], s)
			}
		}
	}
	if len(entries) != slots || len(runs) != slots-lost {
		h.t.Errorf("%s: %d entries and %d runs for %d slots, of which %d lost their run", tr.Name, len(entries), len(runs), slots, lost)
	}
	for id := range runs {
		r := h.await(id, settles)
		h.compareSteps(tr, r, jobs, tr.Overlap.Policy == core.OverlapSkipSteps)
		again += h.repeated(r)
	}
	h.t.Logf("%s: %d slots, %d runs lost, %d attempts superseded", tr.Name, slots, lost, again)
}

// repeated counts the attempts of a run that others had to follow.
func (h *house) repeated(r core.Run) (n int) {
	h.t.Helper()
	steps, err := h.eng.Steps(h.ctx, r.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range steps {
		n += max(0, len(s.Attempts)-1)
	}
	return n
}

func (h *house) deleteAll(tr core.Trigger, group string) {
	h.t.Helper()
	if ok, err := h.eng.DeleteTrigger(h.ctx, tr.UUID); !ok || err != nil {
		h.t.Errorf("delete trigger: %v, %v", ok, err)
	}
	if ok, err := h.eng.DeleteGroup(h.ctx, group); !ok || err != nil {
		h.t.Errorf("delete group: %v, %v", ok, err)
	}
}

// A site is an api process within this one, spoken to as people and programs do.
type site struct{ base, name, password string }

// api starts an api process within this one.
func (h *house) api() site {
	h.t.Helper()
	cfg := config.Default[config.API]()
	cfg.Redis.URL, cfg.NATS.URLs, cfg.Listen = h.url, []string{h.nats.URL}, "127.0.0.1:0"
	cfg.Admin.Password = "correct horse battery"
	started := make(chan process.Started, 1)
	ended := make(chan error, 1)
	h.start(func(ctx context.Context) error {
		err := process.API(ctx, cfg, h.log, process.APIOptions{Started: func(s process.Started) { started <- s }})
		ended <- err
		return err
	})
	select {
	case s := <-started:
		return site{"http://" + s.Addr.String(), s.Admin, cfg.Admin.Password}
	case err := <-ended:
		h.t.Fatalf("the api process ended: %v", err)
	case <-time.After(30 * time.Second):
		h.t.Fatal("the api process does not start")
	}
	return site{}
}

// look signs in and looks at what reads many partitions or queues at once: the
// lists of runs and asynqmon's pages.
func (s site) look(h *house, tr core.Trigger) {
	h.t.Helper()
	var session struct{ Token string }
	s.call(h, http.MethodPost, "/api/v1/sessions", "", map[string]string{"name": s.name, "password": s.password}, &session)
	var runs struct{ Items []json.RawMessage }
	s.call(h, http.MethodGet, "/api/v1/runs?limit=20", session.Token, nil, &runs)
	if len(runs.Items) == 0 {
		h.t.Error("the list of all runs is empty")
	}
	var queues struct{ Queues []struct{ Queue string } }
	s.call(h, http.MethodGet, "/monitoring/api/queues", session.Token, nil, &queues)
	if len(queues.Queues) == 0 {
		h.t.Error("the dashboard knows no queues")
	}
	for _, page := range []string{"/monitoring/api/servers", "/monitoring/api/queues/default", "/monitoring/api/queues/default/pending_tasks", "/monitoring/api/redis_info"} {
		s.call(h, http.MethodGet, page, session.Token, nil, nil)
	}
}

// call speaks JSON and wants success.
func (s site) call(h *house, method, path, token string, body, out any) {
	h.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(h.ctx, method, s.base+path, bytes.NewReader(text))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(res.Body)
	if res.StatusCode/100 != 2 {
		h.t.Errorf("%s %s: %s: %.300s", method, path, res.Status, answer)
		return
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		h.t.Errorf("%s %s: %v", method, path, err)
	}
}
