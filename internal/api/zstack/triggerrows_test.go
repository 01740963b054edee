package zstack_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// slots gives the first slots of a stored trigger, in seconds since its start.
func (r *replica) slots(trigger string, most int) []string {
	r.t.Helper()
	stored, err := r.engine.Trigger(r.ctx(), trigger)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := stored.Schedule.Compile()
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for at, ok := s.Next(stored.Schedule.Start.Add(-1)); ok && len(out) < most; at, ok = s.Next(at) {
		out = append(out, fmt.Sprint(at.Sub(stored.Schedule.Start).Seconds()))
	}
	return out
}

// The row of section 4, trigger simple: fires at startTime, then every
// schedulerInterval; repeatCount N = N runs in all.
func TestTriggerSimple(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct{ row, fields, slots, stop string }{
		{"N runs in all", `"schedulerInterval":60,"repeatCount":3,"startTime":2000000000`, "0 60 120", "May 18, 2033 3:35:20 AM"},
		{"1 = once", `"schedulerInterval":60,"repeatCount":1,"startTime":2000000000`, "0", "May 18, 2033 3:33:20 AM"},
		{"1 = once, interval not needed", `"repeatCount":1,"startTime":2000000000`, "0", "May 18, 2033 3:33:20 AM"},
		{"0 = for ever", `"schedulerInterval":60,"repeatCount":0,"startTime":2000000000`, "0 60 120 180 240", ""},
		{"null = 0", `"schedulerInterval":60,"repeatCount":null,"startTime":2000000000`, "0 60 120 180 240", ""},
		{"not given = 0", `"schedulerInterval":60,"startTime":2000000000`, "0 60 120 180 240", ""},
		{"startTime = epoch seconds, as milliseconds too", `"schedulerInterval":60,"repeatCount":2,"startTime":2.0E12`, "0 60", "May 18, 2033 3:34:20 AM"},
		{"past allowed", `"schedulerInterval":3600,"startTime":1510669257`, "0 3600 7200 10800 14400", ""},
		{"stopTime sent: an end limit", `"schedulerInterval":60,"startTime":2000000000,"stopTime":2000000130`, "0 60 120", "May 18, 2033 3:35:30 AM"},
		{"stopTime sent, and a count that ends before", `"schedulerInterval":60,"repeatCount":2,"startTime":2000000000,"stopTime":2000000130`, "0 60", "May 18, 2033 3:34:20 AM"},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			inv := r.do("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"simple",`+row.fields)).inventory()
			equal(t, "slots", strings.Join(r.slots(inv["uuid"].(string), 5), " "), row.slots)
			stop, _ := inv["stopTime"].(string)
			equal(t, "stopTime", stop, row.stop)
		})
	}
}

// startTime 0 = now: of a trigger that has a target to fire, which is when the first
// one is bound. A run that has begun in the past goes on in its rhythm.
func TestTriggerSimpleStart(t *testing.T) {
	r := newReplica(t, setting{})
	uuid := r.do("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"simple","schedulerInterval":60,"repeatCount":2,"startTime":0`)).inventory()["uuid"].(string)
	read := func() core.Trigger {
		stored, err := r.engine.Trigger(r.ctx(), uuid)
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	if next := read().Next; !next.IsZero() {
		t.Errorf("0 = now: without a target the next slot is %v, want none", next)
	}
	r.bindJob(r.job("j", id.New()), uuid)
	bound := read()
	if late := time.Since(bound.Next).Abs(); late > time.Minute || !bound.Next.Equal(bound.Schedule.Start) {
		t.Errorf("0 = now: the first slot is %v, the start %v, want both now", bound.Next, bound.Schedule.Start)
	}
	equal(t, "0 = now: both runs", strings.Join(r.slots(uuid, 5), " "), "0 60")

	start := time.Now().Add(-90 * time.Second).Unix()
	uuid = r.do("POST", "/scheduler/triggers", params(fmt.Sprintf(`"name":"t","schedulerType":"simple","schedulerInterval":3600,"repeatCount":3,"startTime":%d`, start))).inventory()["uuid"].(string)
	if got, want := read().Next.Unix(), start+3600; got != want {
		t.Errorf("past allowed: the next slot is %d, want %d", got, want)
	}
}
