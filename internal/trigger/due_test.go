package trigger

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
)

func TestManyTriggersFireOnTime(t *testing.T) {
	var uuids []string
	var first time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		first = time.Now().Add(500 * time.Millisecond)
		for n := range 2000 {
			uuids = append(uuids, s.add(time.Second, first.Add(time.Duration(n%10)*10*time.Millisecond), schedule.Misfire{}))
		}
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(5 * time.Second)
		for n, uuid := range uuids {
			for k := range 4 {
				slot := first.Add(time.Duration(n%10)*10*time.Millisecond + time.Duration(k)*time.Second)
				at := b.at(uuid, slot)
				if len(at) != 1 || at[0].Sub(slot) > 5*time.Millisecond {
					t.Fatalf("slot %s of trigger %d was published at %v, want once and on time", slot, n, at)
				}
			}
		}
	})
}

// The storm guard spreads what is late, and what is on time does not wait for it.
func TestStormGuard(t *testing.T) {
	var late []string
	var onTime, fussy string
	var begun, dueSoon time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		begun = time.Now()
		for range 6_000 {
			late = append(late, s.add(time.Hour, begun.Add(-10*time.Minute), schedule.Misfire{}))
		}
		onTime = s.add(time.Second, begun.Add(time.Second), schedule.Misfire{})
		// It is due in the middle of the storm and takes no lateness.
		dueSoon = begun.Add(5 * time.Second)
		fussy = s.add(time.Hour, dueSoon, schedule.Misfire{Policy: schedule.Skip})
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(30 * time.Second)
		for k := range 29 {
			slot := begun.Add(time.Duration(k+1) * time.Second)
			if at := b.at(onTime, slot); len(at) != 1 || at[0].Sub(slot) > 10*time.Millisecond {
				t.Fatalf("a slot due %s into the storm was published at %v, want on time", slot.Sub(begun), at)
			}
		}
		if at := b.at(fussy, dueSoon); len(at) != 1 || at[0].Sub(dueSoon) > 10*time.Millisecond {
			t.Errorf("the slot of a trigger that skips was published at %v, want on time", at)
		}
		perSecond := map[time.Duration]int{}
		pass(5 * time.Second)
		for _, uuid := range late {
			at := b.at(uuid, begun.Add(-10*time.Minute))
			if len(at) != 1 {
				t.Fatalf("a late slot was published %d times, want once", len(at))
			}
			perSecond[at[0].Sub(begun).Truncate(time.Second)]++
		}
		for second, n := range perSecond {
			if n > burstRate {
				t.Errorf("%d late triggers fired in second %s, want at most %d", n, second, burstRate)
			}
		}
	})
}

// While NATS is away slots wait. When it is back they fire, whatever their policy,
// as far as the catch-up window reaches; what is older goes by the policy.
func TestSlotsWaitForNATS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		m      schedule.Misfire
		away   time.Duration
		fired  time.Duration // slots no older than this fire
		others core.Decision
	}{
		{"skip, within the window", schedule.Misfire{Policy: schedule.Skip}, 10 * time.Minute, time.Hour, ""},
		{"fire once, within the window", schedule.Misfire{}, 10 * time.Minute, time.Hour, ""},
		{"fire all, within the window", schedule.Misfire{Policy: schedule.FireAll}, 10 * time.Minute, time.Hour, ""},
		{"fire once, beyond the window", schedule.Misfire{CatchupWindow: 5 * time.Minute}, 10 * time.Minute, 5 * time.Minute, core.Merged},
		{"skip, beyond the window", schedule.Misfire{Policy: schedule.Skip, CatchupWindow: 5 * time.Minute}, 10 * time.Minute, 5 * time.Minute, core.Missed},
	} {
		t.Run(c.name, func(t *testing.T) {
			const interval = 10 * time.Second
			var uuid string
			var first time.Time
			bubble(t, func(s *fakeStore, b *fakeBus) {
				first = time.Now().Add(interval)
				uuid = s.add(interval, first, c.m)
			}, func(t *testing.T, s *fakeStore, b *fakeBus) {
				pass(35 * time.Second)
				b.setAway(true)
				pass(c.away)
				if n := len(s.entries(uuid)); n > 3 {
					t.Fatalf("%d slots were advanced while nothing could be published, want them to wait", n-3)
				}
				b.setAway(false)
				back := time.Now()
				pass(35 * time.Second)
				got := covers(t, s.entries(uuid), first, back, interval)
				fired := 0
				for slot := first; !slot.After(back); slot = slot.Add(interval) {
					switch age := back.Sub(slot); {
					case slot.Before(first.Add(3 * interval)): // before the outage
					case got.of(slot) == "":
						fired++
						if age > c.fired+2*interval {
							t.Errorf("slot fires %s late, want it %s", age, c.others)
						}
						if len(b.at(uuid, slot)) == 0 {
							t.Errorf("slot %s is to fire and was not published", slot)
						}
					case got.of(slot) != c.others || age < c.fired-interval:
						t.Errorf("slot %s late is %s, want to fire below %s and %q above", age, got.of(slot), c.fired, c.others)
					}
				}
				if want := int(min(c.away, c.fired)/interval) - 2; fired < want {
					t.Errorf("%d slots fire, want at least %d", fired, want)
				}
			})
		})
	}
}

// A slot that was published but not advanced is published again, and stands in the
// ledger once.
func TestRedisAwayAfterPublish(t *testing.T) {
	var uuid string
	var first time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		first = time.Now().Add(time.Second)
		uuid = s.add(time.Minute, first, schedule.Misfire{})
		s.away = true
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(11 * time.Second)
		if n := len(b.at(uuid, first)); n < 2 || n > 45 {
			t.Errorf("in 10 s the slot was published %d times, want a few times a second", n)
		}
		s.set(func(s *fakeStore) { s.away = false })
		pass(time.Second)
		if got := covers(t, s.entries(uuid), first, first, time.Minute); len(got) != 1 {
			t.Errorf("%d slots in the ledger, want one", len(got))
		}
	})
}

// A slow store keeps neither doorbells nor leases from being seen.
func TestSlowStoreDoesNotDeafen(t *testing.T) {
	var busy []string
	var edited string
	var begun time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		begun = time.Now()
		for range 10 {
			busy = append(busy, s.add(time.Second, begun.Add(time.Second), schedule.Misfire{}))
		}
		edited = s.add(time.Hour, begun.Add(time.Hour), schedule.Misfire{})
		s.slow = 1100 * time.Millisecond // there is always something due
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(10 * time.Second)
		slot := time.Now().Add(time.Second)
		s.set(func(s *fakeStore) {
			e := s.triggers[edited]
			e.Revision, e.Next, e.Schedule.Start = 2, slot, slot
			s.triggers[edited] = e
		})
		b.changed(edited)
		pass(6 * time.Second)
		b.mu.Lock()
		at := b.fires[core.FireID{Trigger: edited, Revision: 2, Slot: slot}.String()]
		b.mu.Unlock()
		if len(at) == 0 || at[0].Sub(slot) > 4*time.Second {
			t.Errorf("the edited trigger fired at %v, want soon after %s", at, slot)
		}
		if len(b.at(busy[0], begun.Add(time.Second))) == 0 {
			t.Error("the busy triggers did not fire")
		}
	})
}

// Another process has moved the trigger on: this one follows.
func TestAdvancedElsewhere(t *testing.T) {
	var moved, deleted, disabled string
	var begun time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		begun = time.Now()
		moved = s.add(10*time.Second, begun.Add(time.Second), schedule.Misfire{})
		deleted = s.add(10*time.Second, begun.Add(time.Second), schedule.Misfire{})
		disabled = s.add(10*time.Second, begun.Add(time.Second), schedule.Misfire{})
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(500 * time.Millisecond)
		s.set(func(s *fakeStore) { // and nobody rings
			m := s.triggers[moved]
			m.Next = m.Next.Add(10 * time.Second)
			s.triggers[moved] = m
			delete(s.triggers, deleted)
			d := s.triggers[disabled]
			d.Enabled, d.Revision, d.Next = false, 2, time.Time{}
			s.triggers[disabled] = d
		})
		pass(25 * time.Second)
		got := covers(t, s.entries(moved), begun.Add(11*time.Second), begun.Add(21*time.Second), 10*time.Second)
		if len(got) != 2 {
			t.Errorf("%d slots are in the ledger, want the two after the move", len(got))
		}
		for _, uuid := range []string{deleted, disabled} {
			if n := len(s.entries(uuid)); n != 0 {
				t.Errorf("a trigger without slots has %d entries", n)
			}
			if n := len(b.at(uuid, begun.Add(11*time.Second))); n != 0 {
				t.Errorf("a trigger without slots fired %d times after the first", n)
			}
		}
	})
}

// A change whose doorbell was lost is found by looking around, also by a store that
// keeps no edits.
func TestLostDoorbell(t *testing.T) {
	t.Parallel()
	for name, forgetful := range map[string]bool{"edits are kept": false, "edits were lost": true} {
		t.Run(name, func(t *testing.T) {
			var edited, fresh string
			var slot time.Time
			bubble(t, func(s *fakeStore, b *fakeBus) {
				edited = s.add(time.Hour, time.Now().Add(time.Hour), schedule.Misfire{})
				s.forgetful = forgetful
			}, func(t *testing.T, s *fakeStore, b *fakeBus) {
				pass(1300 * time.Millisecond)
				slot = time.Now().Add(100 * time.Millisecond).Truncate(time.Millisecond)
				fresh = s.add(time.Hour, slot, schedule.Misfire{})
				s.set(func(s *fakeStore) {
					e := s.triggers[edited]
					e.Revision, e.Next, e.Schedule.Start = 2, slot, slot
					s.triggers[edited] = e
					s.edits = append(s.edits, edited)
				})
				pass(3 * time.Second)
				b.mu.Lock()
				at := b.fires[core.FireID{Trigger: edited, Revision: 2, Slot: slot}.String()]
				b.mu.Unlock()
				for name, at := range map[string][]time.Time{"edited": at, "new": b.at(fresh, slot)} {
					if len(at) != 1 || at[0].Sub(slot) > look+wall {
						t.Errorf("the %s trigger was published at %v, want once and within %s of %s", name, at, look+wall, slot)
					}
				}
			})
		})
	}
}

func TestDoorbellTakesEffectAtOnce(t *testing.T) {
	var uuid string
	bubble(t, func(s *fakeStore, b *fakeBus) {}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(1300 * time.Millisecond)
		slot := time.Now().Add(10 * time.Millisecond).Truncate(time.Millisecond)
		uuid = s.add(time.Hour, slot, schedule.Misfire{})
		b.changed(uuid)
		b.changed("of another trigger")
		pass(20 * time.Millisecond)
		if at := b.at(uuid, slot); len(at) != 1 || !at[0].Equal(slot) {
			t.Errorf("the new trigger fired at %v, want on time at %s", at, slot)
		}
	})
}

// More rings than the channel holds block nobody and lose no change.
func TestFloodOfDoorbells(t *testing.T) {
	bubble(t, func(s *fakeStore, b *fakeBus) {}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		var uuids []string
		slot := time.Now().Add(2500 * time.Millisecond)
		for range 10_000 {
			uuids = append(uuids, s.add(time.Hour, slot, schedule.Misfire{}))
		}
		for _, uuid := range uuids {
			b.changed(uuid)
		}
		pass(5 * time.Second)
		for _, uuid := range uuids {
			if at := b.at(uuid, slot); len(at) != 1 {
				t.Fatalf("a trigger was published %d times, want once", len(at))
			}
		}
	})
}

func TestLostShardsFireNothing(t *testing.T) {
	var uuid string
	var begun time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		begun = time.Now()
		uuid = s.add(time.Second, begun.Add(time.Second), schedule.Misfire{})
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(3500 * time.Millisecond)
		s.set(func(s *fakeStore) { s.lost = true })
		pass(5 * time.Second)
		if n := len(s.entries(uuid)); n > 4 {
			t.Errorf("%d slots were advanced, want none after the shards were lost", n)
		}
		s.set(func(s *fakeStore) { s.lost = false })
		pass(3 * time.Second)
		covers(t, s.entries(uuid), begun.Add(time.Second), begun.Add(10*time.Second), time.Second)
	})
}

func TestUndecidedFireIsPublishedAgain(t *testing.T) {
	var f core.FireID
	var begun time.Time
	bubble(t, func(s *fakeStore, b *fakeBus) {
		begun = time.Now()
		f = core.FireID{Trigger: id.New(), Revision: 1, Slot: begun}
		s.undecided[f.String()] = begun
	}, func(t *testing.T, s *fakeStore, b *fakeBus) {
		pass(2 * time.Minute)
		b.mu.Lock()
		at := b.again[f.String()]
		b.mu.Unlock()
		if len(at) != 2 {
			t.Fatalf("published again %d times in two minutes, want twice", len(at))
		}
		if first := at[0].Sub(begun); first < undecidedAfter || first > undecidedAfter+time.Second {
			t.Errorf("published again after %s, want after about %s", first, undecidedAfter)
		}
		if wait := at[1].Sub(at[0]); wait < undecidedAgain || wait > undecidedAgain+time.Second {
			t.Errorf("and once more after %s, want after about %s", wait, undecidedAgain)
		}
	})
}

// A slot that was published and decided before its trigger was advanced does not
// hide the slots that were missed behind it.
func TestGapBehindADecidedSlot(t *testing.T) {
	t.Parallel()
	for _, policy := range []schedule.MisfirePolicy{schedule.Skip, schedule.FireOnceNow, schedule.FireAll} {
		t.Run(string(policy), func(t *testing.T) {
			var uuid string
			var first, begun time.Time
			bubble(t, func(s *fakeStore, b *fakeBus) {
				begun = time.Now()
				first = begun.Add(-3 * time.Hour)
				uuid = s.add(time.Minute, first, schedule.Misfire{Policy: policy})
				s.put(uuid, core.LedgerEntry{ID: core.FireID{Trigger: uuid, Revision: 1, Slot: first}.Entry(),
					Revision: 1, From: first, To: first, Count: 1, Decision: core.Fired})
			}, func(t *testing.T, s *fakeStore, b *fakeBus) {
				pass(5 * time.Second)
				if got := covers(t, s.entries(uuid), first, begun, time.Minute); got.of(first) != core.Fired {
					t.Errorf("the decided slot is %q, want it to stay fired", got.of(first))
				}
			})
		})
	}
}
