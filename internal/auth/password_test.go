package auth

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/takt-dev/takt/internal/core"
)

// cheap is a cost for tests that are not about cost.
var cheap = Cost{Memory: 64, Time: 1, Threads: 1}

func TestDigestOf(t *testing.T) {
	// The SHA-512 of "password", as ZStack's documentation has it.
	const want = "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86"
	if got := DigestOf("password"); got != want {
		t.Errorf("DigestOf(password) = %q, want %q", got, want)
	}
}

func TestDigestCheck(t *testing.T) {
	good := DigestOf("correct horse")
	for _, tt := range []struct {
		name   string
		digest Digest
		ok     bool
	}{
		{"digest", good, true},
		{"password itself", "correct horse", false},
		{"upper case", Digest(strings.ToUpper(string(good))), false},
		{"one digit short", good[1:], false},
		{"not hex", "g" + good[1:], false},
		{"of the empty password", DigestOf(""), false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.digest.check("password"); (err == nil) != tt.ok || err != nil && !core.Is(err, core.Invalid) {
				t.Errorf("got error %v, want ok = %v", err, tt.ok)
			}
		})
	}
}

// The PHC strings below come from the reference implementation's test vectors
// (argon2id, version 0x13), so that stored hashes can be moved in and out.
func TestMatchReferenceHashes(t *testing.T) {
	for _, tt := range []struct {
		name, phc, password string
		ok                  bool
	}{
		{"t=2 m=256 p=1", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password", true},
		{"t=2 m=256 p=2", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password", true},
		{"wrong password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "Xassword", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parseHash(tt.phc)
			if err != nil {
				t.Fatal(err)
			}
			if h.String() != tt.phc {
				t.Errorf("String() = %q, want %q", h, tt.phc)
			}
			// The vectors hash the word itself; a lower-case Digest is hashed as it stands.
			ok, _, err := slot{newHasher(cheap)}.match(tt.phc, Digest(strings.ToLower(tt.password)))
			if err != nil || ok != tt.ok {
				t.Errorf("match = %v, %v, want %v", ok, err, tt.ok)
			}
		})
	}
}

func TestHashMatchesOnlyItsPassword(t *testing.T) {
	s := slot{newHasher(cheap)}
	d := DigestOf("one")
	first, second := s.hash(d), s.hash(d)
	if first == second {
		t.Errorf("two hashes of one password are equal: the salt is not random")
	}
	for _, tt := range []struct {
		name     string
		phc      string
		d        Digest
		ok, old  bool
		readable bool
	}{
		{"same", first, d, true, false, true},
		{"same in upper case", first, Digest(strings.ToUpper(string(d))), true, false, true},
		{"another", first, DigestOf("two"), false, false, true},
		{"made at less memory", slot{newHasher(Cost{32, 1, 1})}.hash(d), d, true, true, true},
		{"made at more passes", slot{newHasher(Cost{64, 3, 1})}.hash(d), d, true, false, true},
		{"decoy", s.h.decoy, d, false, false, true},
		{"damaged", "plain text", d, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ok, old, err := s.match(tt.phc, tt.d)
			if ok != tt.ok || old != tt.old || (err == nil) != tt.readable {
				t.Errorf("match = %v, %v, %v; want %v, %v, readable %v", ok, old, err, tt.ok, tt.old, tt.readable)
			}
		})
	}
}

func TestDefaultCostIsWhatWePromise(t *testing.T) {
	h, err := parseHash(newHasher(DefaultCost).decoy)
	if err != nil {
		t.Fatal(err)
	}
	if h.cost.Memory < 64<<10 || h.cost.Time < 1 {
		t.Errorf("default cost is %+v, want 64 MiB at least", h.cost)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(newHasher(DefaultCost).decoy)
	f.Add("$argon2id$v=19$m=65536,t=1,p=1$$")
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc")
	f.Add("$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, phc string) {
		h, err := parseHash(phc)
		if err != nil {
			return
		}
		// What is taken must be affordable, and be the same when written again.
		if h.cost.Memory > 1<<20 || h.cost.Time > 64 || h.cost.Threads > 16 || h.cost.Time == 0 || h.cost.Threads == 0 {
			t.Errorf("%q was taken at cost %+v", phc, h.cost)
		}
		again, err := parseHash(h.String())
		if err != nil || again.String() != h.String() {
			t.Errorf("%q reads back as %q with error %v", phc, again, err)
		}
	})
}

// oneAccount knows one account and, for sign-ins, no more.
type oneAccount struct {
	Accounts
	account core.Account
}

func (o oneAccount) AccountByName(_ context.Context, name string) (core.Account, error) {
	if name != o.account.Name {
		return core.Account{}, core.Errorf(core.NotFound, "there is no such account")
	}
	return o.account, nil
}

func (oneAccount) PutSession(context.Context, core.Account, string, core.Session, int) error {
	return nil
}

// known is the account "ann" with the password "right".
func known() oneAccount {
	phc := slot{newHasher(cheap)}.hash(DigestOf("right"))
	return oneAccount{account: core.Account{UUID: AdminUUID, Name: "ann", Role: core.Admin, Owner: AdminUUID, Password: phc}}
}

// gauge counts the hashes of an Authority and holds each until next is sent to.
type gauge struct {
	now, most, all atomic.Int64
	next           chan struct{}
}

func (g *gauge) attach(a *Authority) {
	derive := a.hasher.derive
	a.hasher.derive = func(password, salt []byte, time, memory uint32, threads uint8, size uint32) []byte {
		g.all.Add(1)
		now := g.now.Add(1)
		for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
		}
		<-g.next
		defer g.now.Add(-1)
		return derive(password, salt, time, memory, threads, size)
	}
}

func TestAtMostTwoPasswordsAreHashedAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(known(), Options{Cost: cheap})
		g := &gauge{next: make(chan struct{})}
		g.attach(a)
		const clients = 12
		results := make(chan error, clients)
		for range clients {
			go func() {
				_, err := a.LoginPlain(t.Context(), "ann", "right", "")
				results <- err
			}()
		}
		for range clients {
			synctest.Wait() // until all of them wait, for a slot or in a hash
			if now := g.now.Load(); now > hashSlots || now == 0 {
				t.Fatalf("%d passwords are being hashed, want 1 to %d", now, hashSlots)
			}
			g.next <- struct{}{}
		}
		for range clients {
			if err := <-results; err != nil {
				t.Errorf("login: %v", err)
			}
		}
		if most := g.most.Load(); most != 2 {
			t.Errorf("at most %d passwords were hashed at a time, want 2", most)
		}
	})
}

func TestWaitForAHashEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(known(), Options{Cost: cheap})
		g := &gauge{next: make(chan struct{})}
		g.attach(a)
		for range hashSlots {
			go a.LoginPlain(t.Context(), "ann", "right", "")
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := a.LoginPlain(ctx, "ann", "right", "")
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !core.Is(err, core.Exhausted) || !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want Exhausted for a canceled context", err)
		}
		close(g.next)
		synctest.Wait()
		if n := g.all.Load(); n != hashSlots {
			t.Errorf("%d passwords were hashed, want %d: the client that left must cost none", n, hashSlots)
		}
	})
}

// Guesses sent at once all pass the first look at the back-off; they must not
// all get a hash.
func TestGuessesSentAtOnceAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(known(), Options{Cost: cheap})
		g := &gauge{next: make(chan struct{})}
		g.attach(a)
		const guesses = 50
		results := make(chan error, guesses)
		for range guesses {
			go func() {
				_, err := a.LoginPlain(t.Context(), "ann", "wrong", "")
				results <- err
			}()
		}
		synctest.Wait() // all are past the first look
		close(g.next)
		kinds := map[core.Kind]int{}
		for range guesses {
			kinds[core.KindOf(<-results)]++
		}
		// The slot beside the fifth failure may be in use already.
		if n := kinds[core.Unauthenticated]; n < freeFailures || n > freeFailures+hashSlots-1 {
			t.Errorf("%d guesses were answered, want %d or one more", n, freeFailures)
		}
		if kinds[core.Unauthenticated]+kinds[core.Exhausted] != guesses {
			t.Errorf("got answers %v, want %d in all", kinds, guesses)
		}
	})
}

func TestUnknownNameCostsAHash(t *testing.T) {
	for _, tt := range []struct{ name, account, password string }{
		{"known name", "ann", "wrong"},
		{"unknown name", "nobody", "wrong"},
		{"unknown name, right password", "nobody", "right"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := New(known(), Options{Cost: cheap})
			g := &gauge{next: make(chan struct{})}
			g.attach(a)
			close(g.next)
			_, err := a.LoginPlain(t.Context(), tt.account, tt.password, "")
			if !core.Is(err, core.Unauthenticated) || core.Text(err) != "wrong account name or password" {
				t.Errorf("got error %v, want the one text for all", err)
			}
			if n := g.all.Load(); n != 1 {
				t.Errorf("%d hashes were spent, want 1", n)
			}
		})
	}
}

func TestNewPasswordIsReadableAndRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		p := newPassword()
		groups := strings.Split(p, "-")
		if len(groups) != 4 || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz234567-") != "" {
			t.Fatalf("password %q is not four groups of base32", p)
		}
		// 5 bits a character: 80 bits take 16 of them.
		if n := len(strings.ReplaceAll(p, "-", "")); n < 16 {
			t.Fatalf("password %q has %d characters, want 16 at least", p, n)
		}
		seen[p] = true
	}
	if len(seen) != 100 {
		t.Errorf("100 passwords are %d different ones", len(seen))
	}
}
