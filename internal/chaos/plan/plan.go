package plan

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// WarmUp is the time before the first fault, in which the survivors' goroutines
	// and memory are taken down.
	WarmUp = 6 * time.Second
	// lossPeace is how long the store and the api processes are left in peace after
	// the first worker is lost.
	lossPeace = promisedElsewhere + 500*time.Millisecond

	gapMin, gapMax = 1500 * time.Millisecond, 4 * time.Second
	// apart is how much later the second of a pair strikes at most.
	apart = 1500 * time.Millisecond

	grain = 100 * time.Millisecond
)

// Victims says how many processes of each kind there are.
const (
	APIs     = 2
	Workers  = 3
	Triggers = 2
)

// Of gives the plan of a seed: the faults of d, in order, drawn from kinds.
func Of(seed uint64, d time.Duration, kinds []Kind) []Fault {
	p := &planner{rand: rand.New(rand.NewPCG(seed, 0x7461_6b74)), kinds: kinds, until: d}
	at := WarmUp + p.between(0, time.Second)
	if loss := p.only(Kind.LosesWorker); len(loss) > 0 {
		at = p.firstAct(at, loss)
	}
	for at < d {
		end, ok := p.act(at)
		if !ok {
			break
		}
		at = end + p.between(gapMin, gapMax)
	}
	slices.SortStableFunc(p.faults, func(a, b Fault) int { return int(a.At - b.At) })
	return p.faults
}

type planner struct {
	rand   *rand.Rand
	kinds  []Kind
	deck   []Kind
	until  time.Duration
	faults []Fault
}

// firstAct loses a worker, perhaps together with something that is no part of the
// promise, and gives when the next act may begin.
func (p *planner) firstAct(at time.Duration, loss []Kind) time.Duration {
	f := p.fault(loss[p.rand.IntN(len(loss))], at)
	if f.Kind != StopWorker && f.Kind != KillWorker {
		f.For = max(f.For, 2*lossOfWorker)
	}
	p.take(f)
	p.remove(f.Kind)
	if p.rand.IntN(2) == 0 {
		p.pair(f, func(k Kind) bool { return !k.HitsStore() && traits[k].strikes != worker })
	}
	return at + max(lossPeace, p.end()-at) + p.between(0, gapMin)
}

// act lets one or two faults strike and gives when both are over. It reports false
// when none of the deck ends in time.
func (p *planner) act(at time.Duration) (time.Duration, bool) {
	k, ok := p.draw(func(k Kind) bool { return at+traits[k].min <= p.until })
	if !ok {
		return 0, false
	}
	f := p.fault(k, at)
	f.For = min(f.For, max(p.until-at, traits[k].min))
	p.take(f)
	if p.rand.IntN(3) > 0 {
		p.pair(f, func(k Kind) bool { return at+apart+traits[k].min <= p.until })
	}
	return p.end(), true
}

// pair adds a second fault that strikes something else.
func (p *planner) pair(first Fault, fits func(Kind) bool) {
	k, ok := p.draw(func(k Kind) bool {
		same := traits[k].strikes == traits[first.Kind].strikes
		return fits(k) && (!same || traits[k].strikes == worker)
	})
	if !ok {
		return
	}
	at := first.At + p.between(0, apart)
	f := p.fault(k, at)
	f.For = min(f.For, max(p.until-at, traits[k].min))
	if traits[k].strikes == traits[first.Kind].strikes && f.Victim == first.Victim {
		f.Victim = (f.Victim + 1) % Workers
	}
	p.take(f)
}

func (p *planner) take(f Fault) { p.faults = append(p.faults, f) }

// end gives when the last fault is over.
func (p *planner) end() time.Duration {
	var end time.Duration
	for _, f := range p.faults {
		end = max(end, f.At+f.For)
	}
	return end
}

func (p *planner) fault(k Kind, at time.Duration) Fault {
	t := traits[k]
	f := Fault{Kind: k, At: at, For: p.between(t.min, t.max)}
	switch t.strikes {
	case api:
		f.Victim = p.rand.IntN(APIs)
	case worker:
		f.Victim = p.rand.IntN(Workers)
	case trigger:
		f.Victim = p.rand.IntN(Triggers)
	}
	switch k {
	case ClockStep:
		f.Step = smallStep
	case ClockStepLarge:
		f.Step = largeStep
	}
	if p.rand.IntN(2) == 0 {
		f.Step = -f.Step
	}
	return f
}

// draw takes the first kind of the deck that fits, shuffling a new deck when the
// old one is used up.
func (p *planner) draw(fits func(Kind) bool) (Kind, bool) {
	if len(p.deck) == 0 {
		p.deck = slices.Clone(p.kinds)
		p.rand.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	for _, k := range p.deck {
		if fits(k) {
			p.remove(k)
			return k, true
		}
	}
	return "", false
}

func (p *planner) remove(k Kind) {
	p.deck = slices.DeleteFunc(p.deck, func(other Kind) bool { return other == k })
}

func (p *planner) only(keep func(Kind) bool) []Kind {
	return slices.DeleteFunc(slices.Clone(p.kinds), func(k Kind) bool { return !keep(k) })
}

// between gives a random time in whole grains.
func (p *planner) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return (least + time.Duration(p.rand.Int64N(int64(most-least)))).Truncate(grain)
}
