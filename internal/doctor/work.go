package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// vanished is how long after its last heartbeat the attempts of a worker have
// been taken over, with time to spare.
const vanished = 20 * time.Second

// A tallyOf adds up the censuses of all partitions.
type tallyOf struct {
	core.Census
	triggers            core.TriggerCensus
	lateQueues          map[string]int
	lostAttempts, overs int
	lostWorkers         []string
}

// countAll adds up what there is to do; nil if it cannot be read, which is told.
func (c *chart) countAll(ctx context.Context, now time.Time, fleet core.Fleet) *tallyOf {
	t := &tallyOf{Census: core.Census{OutboxKinds: map[string]int{}, TimerKinds: map[string]int{}, ParkReasons: map[string]int{}}, lateQueues: map[string]int{}}
	for n := range c.Records.Partitions() {
		if err := t.count(ctx, c.Records, n, now, fleet); err != nil {
			c.unread(Work, "partitions", err)
			return nil
		}
	}
	return t
}

// work looks at what waits for longer than its repair takes, and at what is kept.
func (c *chart) work(ctx context.Context, t *tallyOf, now time.Time, fleet core.Fleet) {
	c.slots(t.triggers)
	c.late(t)
	c.attempts(t)
	c.parked(ctx, t, now)
	c.dispatches(t, fleet)
	c.queues(ctx, fleet)
	c.kept(t, now)
}

// count adds one partition of each kind.
func (t *tallyOf) count(ctx context.Context, r RecordReader, n int, now time.Time, fleet core.Fleet) error {
	runs, err := r.Census(ctx, n, now)
	if err != nil {
		return err
	}
	t.addRuns(runs)
	triggers, err := r.TriggerCensus(ctx, n, now)
	if err != nil {
		return err
	}
	t.addTriggers(triggers)
	if runs.SentLate > 0 {
		queues, err := r.LateQueues(ctx, n, now)
		if err != nil {
			return err
		}
		addTo(t.lateQueues, queues)
	}
	if runs.Live == 0 {
		return nil
	}
	live, err := r.Live(ctx, n)
	t.addLive(live, now, fleet)
	return err
}

// countParked counts again what is parked, if anything was.
func (t *tallyOf) countParked(ctx context.Context, r RecordReader, now time.Time) error {
	if t.Parked == 0 {
		return nil
	}
	parked, reasons := int64(0), map[string]int{}
	for n := range r.Partitions() {
		c, err := r.Census(ctx, n, now)
		if err != nil {
			return err
		}
		parked += c.Parked
		addTo(reasons, c.ParkReasons)
	}
	t.Parked, t.ParkReasons = parked, reasons
	return nil
}

func (t *tallyOf) addRuns(c core.Census) {
	for into, n := range map[*int64]int64{
		&t.Jobs: c.Jobs, &t.Groups: c.Groups, &t.Runs: c.Runs, &t.Sent: c.Sent, &t.Live: c.Live, &t.Parked: c.Parked, &t.Outbox: c.Outbox,
		&t.Timers: c.Timers, &t.OutboxLate: c.OutboxLate, &t.SentLate: c.SentLate, &t.TimersLate: c.TimersLate,
	} {
		*into += n
	}
	addTo(t.OutboxKinds, c.OutboxKinds)
	addTo(t.TimerKinds, c.TimerKinds)
	addTo(t.ParkReasons, c.ParkReasons)
	t.OldestRun = earlier(t.OldestRun, c.OldestRun)
}

func (t *tallyOf) addTriggers(c core.TriggerCensus) {
	s := &t.triggers
	for into, n := range map[*int64]int64{
		&s.Triggers: c.Triggers, &s.Scheduled: c.Scheduled, &s.Overdue: c.Overdue, &s.Undecided: c.Undecided, &s.UndecidedLate: c.UndecidedLate,
		&s.Outbox: c.Outbox, &s.OutboxLate: c.OutboxLate, &s.Entries: c.Entries, &s.Looked: c.Looked,
	} {
		*into += n
	}
	s.OldestEntry = earlier(s.OldestEntry, c.OldestEntry)
	s.OverdueAge, s.UndecidedAge = max(s.OverdueAge, c.OverdueAge), max(s.UndecidedAge, c.UndecidedAge)
	s.OverdueOf, s.UndecidedOf = append(s.OverdueOf, c.OverdueOf...), append(s.UndecidedOf, c.UndecidedOf...)
}

func (t *tallyOf) addLive(live []core.Under, now time.Time, fleet core.Fleet) {
	for _, u := range live {
		if now.Sub(fleet.Workers[u.Worker].Seen) > vanished {
			t.lostAttempts++
			t.lostWorkers = append(t.lostWorkers, u.Worker)
		}
		if !u.Overdue.IsZero() && now.Sub(u.Overdue) > core.TimersLate {
			t.overs++
		}
	}
}

func addTo(into, counts map[string]int) {
	for name, n := range counts {
		into[name] += n
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// slots looks at triggers whose slot has passed and at fires nobody decided.
func (c *chart) slots(t core.TriggerCensus) {
	if t.Overdue > 0 {
		c.problem(Work, "slots", fmt.Sprintf("%s not published, the oldest for %v: of %s", plural(t.Overdue, "slot is", "slots are"), t.OverdueAge.Round(time.Second), listed(t.OverdueOf)),
			"start trigger processes and see whether NATS takes fires; the ledger will say what became of these slots")
	} else {
		c.ok(Work, "slots", fmt.Sprintf("%s, %d with a next slot, none overdue", plural(t.Triggers, "trigger", "triggers"), t.Scheduled))
	}
	if t.UndecidedLate > 0 {
		c.problem(Work, "fires", fmt.Sprintf("%s undecided, the oldest for %v: %s", plural(t.UndecidedLate, "fire is", "fires are"), t.UndecidedAge.Round(time.Second), listed(t.UndecidedOf)),
			"start api processes; their log says why a fire is not decided")
	} else {
		c.ok(Work, "fires", plural(t.Undecided, "fire", "fires")+" on the way, none for long")
	}
}

// late looks at the two sets that api processes work off.
func (c *chart) late(t *tallyOf) {
	if n := t.OutboxLate + t.triggers.OutboxLate; n > 0 {
		c.problem(Work, "outbox", fmt.Sprintf("%s not done for more than %v%s", plural(n, "effect is", "effects are"), core.OutboxLate, inBrackets(t.OutboxKinds)),
			"start api processes; their log says why an effect cannot be done")
	} else {
		c.ok(Work, "outbox", plural(t.Outbox+t.triggers.Outbox, "effect", "effects")+", none old")
	}
	if t.TimersLate > 0 {
		c.problem(Work, "timers", fmt.Sprintf("%s overdue by more than %v%s", plural(t.TimersLate, "timer is", "timers are"), core.TimersLate, inBrackets(t.TimerKinds)),
			"start api processes; their log says why a timer cannot be acted on")
	} else {
		c.ok(Work, "timers", plural(t.Timers, "timer", "timers")+", none overdue")
	}
}

func inBrackets(counts map[string]int) string {
	if len(counts) == 0 {
		return ""
	}
	return " (" + tally(counts) + ")"
}

func (c *chart) attempts(t *tallyOf) {
	switch {
	case t.lostAttempts > 0:
		c.problem(Work, "attempts", fmt.Sprintf("%s under way at workers that vanished: %s", plural(t.lostAttempts, "attempt is", "attempts are"), listed(t.lostWorkers)),
			"start api processes: their reconciler runs these steps elsewhere")
	case t.overs > 0:
		c.problem(Work, "attempts", plural(t.overs, "attempt is", "attempts are")+" past its deadline and grace", "start api processes: their reconciler ends them")
	default:
		c.ok(Work, "attempts", plural(t.Live, "attempt", "attempts")+" under way, all at live workers")
	}
}

// parked looks at steps that no live worker can execute. One that is parked while its
// worker is started anew is sent within a second of that, which is waited for.
func (c *chart) parked(ctx context.Context, t *tallyOf, now time.Time) {
	again(ctx, func() bool {
		err := t.countParked(ctx, c.Records, now)
		return err != nil || t.Parked == 0
	})
	if t.Parked == 0 {
		c.ok(Work, "parked steps", "no step waits for a worker that can execute it")
		return
	}
	var reasons []string
	looked := 0
	for _, reason := range slices.Sorted(maps.Keys(t.ParkReasons)) {
		reasons = append(reasons, fmt.Sprintf("%d × %s", t.ParkReasons[reason], reason))
		looked += t.ParkReasons[reason]
	}
	text := fmt.Sprintf("%s parked: %s", plural(t.Parked, "step is", "steps are"), strings.Join(reasons, ", "))
	if int64(looked) < t.Parked {
		text += fmt.Sprintf(" (of the %d looked at)", looked)
	}
	c.warn(Work, "parked steps", text, "start a worker that can, or cancel the runs")
}

// dispatches looks at what was sent and has not begun for a minute. Where workers
// read the queue it is a backlog and no fault.
func (c *chart) dispatches(t *tallyOf, fleet core.Fleet) {
	read := readQueues(fleet)
	unread := map[string]int{}
	for queue, n := range t.lateQueues {
		if !read[queue] {
			unread["in "+queue] += n
		}
	}
	switch {
	case len(unread) > 0:
		c.problem(Work, "dispatches", fmt.Sprintf("dispatches older than %v in queues that no live worker reads: %s", core.SentLate, tally(unread)),
			"start api processes, which send them elsewhere, or a worker that reads the queue")
	case t.SentLate > 0:
		c.warn(Work, "dispatches", fmt.Sprintf("%s not begun for more than %v: the workers are behind", plural(t.SentLate, "dispatch has", "dispatches have"), core.SentLate),
			"start more workers, or give them more slots")
	default:
		c.ok(Work, "dispatches", plural(t.Sent, "dispatch waits", "dispatches wait")+", none for long")
	}
}

func readQueues(fleet core.Fleet) map[string]bool {
	read := map[string]bool{}
	for _, w := range fleet.Workers {
		for _, q := range w.Queues {
			read[q] = read[q] || w.Live
		}
	}
	return read
}

// queues looks at the transport.
func (c *chart) queues(ctx context.Context, fleet core.Fleet) {
	states, err := c.Queues.Queues(ctx)
	if err != nil {
		c.unread(Work, "queues", err)
		return
	}
	read := readQueues(fleet)
	unread, stuck := map[string]int{}, map[string]int{}
	var paused []string
	var pending int64
	for _, q := range states {
		pending += q.Pending
		if q.Pending > 0 && !read[q.Name] {
			unread["in "+q.Name] += int(q.Pending)
		}
		if n := q.Archived + q.Retry + q.Scheduled; n > 0 {
			stuck["in "+q.Name] += int(n)
		}
		if q.Paused {
			paused = append(paused, q.Name)
		}
	}
	slices.Sort(paused)
	sound := true
	if len(unread) > 0 {
		sound = false
		c.warn(Work, "queues", "tasks in queues that no live worker reads: "+tally(unread), "start a worker that reads them; what still counts is otherwise sent elsewhere by the api processes")
	}
	if len(stuck) > 0 {
		sound = false
		c.warn(Work, "queues", "tasks put aside as archived, retry or scheduled: "+tally(stuck), "look at /monitoring; they may be deleted there, since a step that still counts is sent again")
	}
	if len(paused) > 0 {
		sound = false
		c.warn(Work, "queues", "paused by hand: "+listed(paused), "resume them in /monitoring when it is time")
	}
	if sound {
		c.ok(Work, "queues", fmt.Sprintf("%s, %s pending", plural(len(states), "queue", "queues"), plural(pending, "task", "tasks")))
	}
}
