package store_test

import (
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/core"
)

// A ledgerRow is what checkFires reads of an entry's row.
type ledgerRow struct {
	id, rev, decision string
	manual            bool
	from, to          int64
}

// A firePicture is what stands of fires in one trigger partition.
type firePicture struct {
	w          *world
	root       string
	rows       map[string][]ledgerRow // by trigger
	open       map[string][]string    // by trigger: entries that are open and have no row
	next       map[string]string
	early      map[string]string
	undecided  map[string]bool
	unexpected map[string]bool // members of undecided that nothing asks for, yet
}

// checkFires tests that what stands in the trigger partitions agrees with itself: no
// slot is covered twice, each open one is among the undecided, and a note that a slot
// was decided early is of the trigger's next slot.
func (w *world) checkFires() {
	w.Helper()
	roots := map[string]bool{}
	for _, key := range w.keys() {
		if strings.HasPrefix(key, "takt:{t:") {
			roots[key[:strings.Index(key, "}")+1]] = true
		}
	}
	for root := range roots {
		p := w.firePicture(root)
		for trigger := range p.rows {
			p.checkRows(trigger)
		}
		for trigger, ids := range p.open {
			p.checkOpen(trigger, ids)
		}
		p.checkEarly()
		for member := range p.unexpected {
			w.Errorf("undecided has %s, which is not open", member)
		}
	}
}

func (w *world) firePicture(root string) *firePicture {
	w.Helper()
	ctx := w.Context()
	p := &firePicture{
		w: w, root: root, rows: map[string][]ledgerRow{}, open: map[string][]string{},
		next: w.rdb.HGetAll(ctx, root+":next").Val(), early: w.rdb.HGetAll(ctx, root+":early").Val(),
		undecided: map[string]bool{}, unexpected: map[string]bool{},
	}
	for _, member := range w.rdb.ZRange(ctx, root+":undecided", 0, -1).Val() {
		p.undecided[member], p.unexpected[member] = true, true
	}
	for trigger, list := range w.rdb.HGetAll(ctx, root+":open").Val() {
		for _, slot := range strings.Split(list, ",")[1:] {
			entry, published, _ := strings.Cut(slot, "|")
			if ms, err := strconv.ParseInt(published, 10, 64); err != nil || ms == 0 {
				w.Errorf("open slot %q of %s does not tell when it was published", slot, w.names[trigger])
			}
			p.open[trigger] = append(p.open[trigger], entry)
		}
	}
	for _, key := range w.keys() {
		if trigger, ok := strings.CutPrefix(key, root+":row:"); ok {
			p.addRows(trigger, w.rdb.HGetAll(ctx, key).Val())
		}
	}
	return p
}

func (p *firePicture) addRows(trigger string, rows map[string]string) {
	p.w.Helper()
	number := func(text string) int64 { n, _ := strconv.ParseInt(text, 10, 64); return n }
	for id, row := range rows {
		f := strings.SplitN(row, "|", 11)
		if len(f) != 11 {
			p.w.Fatalf("entry %s has the row %q", id, row)
		}
		p.rows[trigger] = append(p.rows[trigger], ledgerRow{id, f[0], f[7], f[1] == "1", number(f[2]), number(f[3])})
	}
}

// checkRows checks the rows of a trigger against its index and each other.
func (p *firePicture) checkRows(trigger string) {
	p.w.Helper()
	rows, name := p.rows[trigger], p.w.names[trigger]
	index := p.w.rdb.ZRangeWithScores(p.w.Context(), p.root+":led:"+trigger, 0, -1).Val()
	scores := map[string]int64{}
	for _, z := range index {
		id, _ := z.Member.(string)
		scores[id] = int64(z.Score)
	}
	if len(scores) != len(rows) {
		p.w.Errorf("%s: the index has %d entries, the rows are %d", name, len(scores), len(rows))
	}
	for k, r := range rows {
		if scores[r.id] != r.from {
			p.w.Errorf("%s: entry %s stands at %d, want %d", name, r.id, scores[r.id], r.from)
		}
		if r.decision == "" {
			p.listed(trigger, r.id)
		}
		for _, other := range rows[:k] {
			if !r.manual && !other.manual && r.rev == other.rev && r.from <= other.to && other.from <= r.to {
				p.w.Errorf("%s: entries %s and %s cover the same slots", name, r.id, other.id)
			}
		}
	}
}

// listed checks that an open slot is among the undecided.
func (p *firePicture) listed(trigger, entry string) {
	p.w.Helper()
	member := trigger + "/" + entry
	if !p.undecided[member] {
		p.w.Errorf("%s: entry %s is open and not among the undecided", p.w.names[trigger], entry)
	}
	delete(p.unexpected, member)
}

// covered gives the decision of the row that covers a slot of the schedule.
func (p *firePicture) covered(trigger, entry string) (decision string, ok bool) {
	f, err := core.ParseEntry(trigger, entry)
	p.w.ok(err)
	for _, r := range p.rows[trigger] {
		if ms := f.Slot.UnixMilli(); !r.manual && r.rev == strconv.FormatInt(f.Revision, 10) && r.from <= ms && ms <= r.to {
			return r.decision, true
		}
	}
	return "", false
}

func (p *firePicture) checkOpen(trigger string, entries []string) {
	p.w.Helper()
	for _, entry := range entries {
		p.listed(trigger, entry)
		if _, ok := p.covered(trigger, entry); ok {
			p.w.Errorf("%s: slot %s is open and covered by a row", p.w.names[trigger], entry)
		}
	}
}

func (p *firePicture) checkEarly() {
	p.w.Helper()
	for trigger, entry := range p.early {
		if p.next[trigger] != entry {
			p.w.Errorf("%s: the early one is %s, the next one %s", p.w.names[trigger], entry, p.next[trigger])
		}
		if decision, ok := p.covered(trigger, entry); !ok || decision == "" {
			p.w.Errorf("%s: %s counts as decided early, its entry says %q, %v", p.w.names[trigger], entry, decision, ok)
		}
	}
	for trigger, entry := range p.next {
		if decision, ok := p.covered(trigger, entry); ok && p.early[trigger] != entry {
			p.w.Errorf("%s: the next slot %s is decided (%s) and not noted so", p.w.names[trigger], entry, decision)
		}
	}
}
