package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/embedded"
	"github.com/takt-dev/takt/internal/testenv"
)

// fires makes n fires, the same ones each time.
func fires(n int) []core.FireID {
	out := make([]core.FireID, n)
	for k := range out {
		out[k] = core.FireID{Trigger: strings.Repeat("a", 32), Revision: 1, Slot: time.UnixMilli(1_700_000_000_000 + int64(k)).UTC()}
	}
	return out
}

func consume(t testing.TB, b *Bus, decide func(Batch) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.ConsumeFires(ctx, func(_ context.Context, in Batch) error { return decide(in) })
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// decided keeps what a consumer is given, as "<fire> <tries>"; fail may refuse.
func decided(t testing.TB, b *Bus, fail func(Batch) error) *ear {
	t.Helper()
	e := &ear{}
	consume(t, b, func(in Batch) error {
		for _, f := range in.Fires {
			e.hear(fmt.Sprint(f, " ", in.Tries))
		}
		if fail != nil {
			return fail(in)
		}
		return nil
	})
	return e
}

func stream(t testing.TB, b *Bus) *jetstream.StreamInfo {
	t.Helper()
	s, err := b.js.Stream(t.Context(), Stream)
	must(t, err)
	info, err := s.Info(t.Context())
	must(t, err)
	return info
}

func TestStreamIsAsDocumented(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	for range 2 { // made and made again
		must(t, b.EnsureStream(t.Context()))
	}
	c := stream(t, b).Config
	if c.Storage != jetstream.FileStorage || c.Discard != jetstream.DiscardNew || c.MaxAge != 24*time.Hour ||
		c.Duplicates != 2*time.Minute || c.Replicas != 1 || !slices.Equal(c.Subjects, []string{"takt.fires"}) {
		t.Errorf("stream is %+v", c)
	}
	cons, err := b.js.Consumer(t.Context(), Stream, consumer)
	must(t, err)
	if c := cons.CachedInfo().Config; c.AckPolicy != jetstream.AckExplicitPolicy || c.AckWait != 5*time.Second || c.MaxDeliver != -1 || c.Durable == "" {
		t.Errorf("consumer is %+v", c)
	}
}

// Two dispatchers share what is published: each fire is decided once.
func TestFiresAreConsumedOnce(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	from, one, two := connect(t, server), connect(t, server), connect(t, server)
	a, b := decided(t, one, nil), decided(t, two, nil)
	all := fires(300)
	var want []string
	for k := 0; k < len(all); k += 3 {
		must(t, from.PublishFires(t.Context(), all[k:k+3]))
		for _, f := range all[k : k+3] {
			want = append(want, f.String()+" 1")
		}
	}
	slices.Sort(want)
	testenv.Eventually(t, 10*time.Second, func() error {
		got := append(a.all(), b.all()...)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%d fires were decided, want %d once each", len(got), len(want))
		}
		return nil
	})
	if len(a.all()) == 0 || len(b.all()) == 0 {
		t.Errorf("the two decided %d and %d fires, want both to take part", len(a.all()), len(b.all()))
	}
	acked(t, one)
}

// acked waits until nothing is owed to the stream.
func acked(t testing.TB, b *Bus) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() error {
		c, err := b.js.Consumer(t.Context(), Stream, consumer)
		if err != nil {
			return err
		}
		if i := c.CachedInfo(); i.NumAckPending+int(i.NumPending) > 0 {
			return fmt.Errorf("%d messages are not acknowledged, %d not delivered", i.NumAckPending, i.NumPending)
		}
		return nil
	})
}

func TestRefusedFiresComeAgain(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	var mu sync.Mutex
	var at []time.Time
	got := decided(t, b, func(in Batch) error {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		if in.Tries < 3 {
			return errors.New("not now")
		}
		return nil
	})
	testenv.Eventually(t, 5*time.Second, func() error { return b.PublishFires(t.Context(), fires(1)) })
	f := fires(1)[0].String()
	got.hears(t, f+" 1", f+" 2", f+" 3")
	acked(t, b)
	mu.Lock()
	defer mu.Unlock()
	for k := 1; k < len(at); k++ {
		if wait := at[k].Sub(at[k-1]); wait < 900*time.Millisecond || wait > 2500*time.Millisecond {
			t.Errorf("it came again after %s, want after about a second", wait)
		}
	}
}

// A decision that takes longer than the ack may is not taken from its dispatcher.
func TestSlowDecisionIsKept(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	b, other := connect(t, server), connect(t, server)
	begun := time.Now()
	wait := func(Batch) error {
		testenv.Eventually(t, 20*time.Second, func() bool { return time.Since(begun) > ackWait+time.Second })
		return nil
	}
	x, y := decided(t, b, wait), decided(t, other, wait)
	testenv.Eventually(t, 5*time.Second, func() error { return b.PublishFires(t.Context(), fires(1)) })
	testenv.Eventually(t, 10*time.Second, func() bool { return time.Since(begun) > ackWait+1500*time.Millisecond })
	acked(t, b)
	if got := append(x.all(), y.all()...); len(got) != 1 {
		t.Errorf("decided as %q, want once", got)
	}
}

func TestGarbageIsTerminated(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	must(t, b.EnsureStream(t.Context()))
	got := decided(t, b, nil)
	f := fires(1)[0].String()
	mixed, err := json.Marshal([]string{"what is this", f, "x/y", "", "a/1"})
	must(t, err)
	for _, data := range []string{"garbage", "", `{"fires":1}`, string(mixed), "[]", "null"} {
		_, err := b.js.Publish(t.Context(), firesSubject, []byte(data))
		must(t, err)
	}
	got.hears(t, f+" 1")
	acked(t, b)
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	for range 3 {
		must(t, b.PublishFires(t.Context(), fires(2)))
	}
	if n := stream(t, b).State.Msgs; n != 1 {
		t.Errorf("the same fires published again make %d messages, want one", n)
	}
	must(t, b.PublishFires(t.Context(), fires(3)))
	must(t, b.Republish(t.Context(), fires(2)))
	must(t, b.Republish(t.Context(), fires(2)))
	if n := stream(t, b).State.Msgs; n != 4 {
		t.Errorf("%d messages, want others and republished ones to be messages of their own", n)
	}
}

// What is as it has to be is recognized, so that it is not written anew at each start;
// what somebody changed is put right.
func TestEnsureStreamPutsRightWhatWasChanged(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	config := func() (jetstream.StreamConfig, jetstream.ConsumerConfig) {
		t.Helper()
		s, err := b.js.Stream(t.Context(), Stream)
		must(t, err)
		c, err := s.Consumer(t.Context(), consumer)
		must(t, err)
		return s.CachedInfo().Config, c.CachedInfo().Config
	}
	asWanted := func(when string) {
		t.Helper()
		must(t, b.EnsureStream(t.Context()))
		if s, c := config(); !sameStream(s, streamConfig(1)) || !sameConsumer(c, consumerConfig()) {
			t.Errorf("%s: got %+v and %+v", when, s, c)
		}
	}
	asWanted("when it was made")
	s, c := config()
	s.MaxAge, c.MaxAckPending = time.Hour, 7
	_, err := b.js.UpdateStream(t.Context(), s)
	must(t, err)
	_, err = b.js.UpdateConsumer(t.Context(), Stream, c)
	must(t, err)
	asWanted("after somebody changed it")
}

func TestLargestMessage(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	must(t, b.PublishFires(t.Context(), fires(MaxFires)))
	n := make(chan int, 1)
	consume(t, b, func(in Batch) error { n <- len(in.Fires); return nil })
	if got := <-n; got != MaxFires {
		t.Errorf("%d fires came, want %d", got, MaxFires)
	}
}

func TestPublishWhileAway(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	b := connect(t, server)
	must(t, b.PublishFires(t.Context(), fires(1)))
	server.Stop()
	for range 3 {
		began := time.Now()
		if err := b.PublishFires(t.Context(), fires(2)); !core.Is(err, core.Unavailable) {
			t.Errorf("publishing gives %v, want unavailable", err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s to fail, want less than 3s", took)
		}
		testenv.Eventually(t, 5*time.Second, func() bool { return !b.Connected() })
	}
}

// The stream keeps what was published over a restart, and the consumer goes on.
func TestRestartOfNATS(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	from, to := connect(t, server), connect(t, server)
	must(t, from.PublishFires(t.Context(), fires(1)))
	server.Stop()
	server.Restart()
	got := decided(t, to, nil)
	f := fires(1)[0].String()
	testenv.Eventually(t, 15*time.Second, func() bool { return len(got.all()) > 0 }) // who asks a server that is starting may wait 5 s in vain
	got.hears(t, f+" 1")
	acked(t, to)

	server.Stop()
	testenv.Eventually(t, 5*time.Second, func() bool { return !to.Connected() })
	server.Restart()
	g := fires(2)[1:]
	testenv.Eventually(t, 10*time.Second, func() error { return from.PublishFires(t.Context(), g) })
	testenv.Eventually(t, 15*time.Second, func() error {
		if all := got.all(); !slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, g[0].String()) }) {
			return fmt.Errorf("after the restart only %q came", all)
		}
		return nil
	})
}

// NATS comes back without its disk, and somebody makes the stream by hand: the
// dispatcher makes its consumer anew.
func TestLostConsumerIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := func() string {
		d, err := os.MkdirTemp("", "takt-test-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(d) })
		return d
	}
	first, err := embedded.StartNATS(dir(), embedded.NATSOptions{})
	must(t, err)
	url := first.URL()
	b, err := Connect(Options{URLs: []string{url}, Log: quiet})
	must(t, err)
	t.Cleanup(b.Close)
	got := decided(t, b, nil)
	testenv.Eventually(t, 5*time.Second, func() error { return b.PublishFires(t.Context(), fires(1)) })
	got.hears(t, fires(1)[0].String()+" 1")
	first.Stop()
	testenv.Eventually(t, 5*time.Second, func() bool { return !b.Connected() })
	second, err := embedded.StartNATS(dir(), sameAddress(t, url))
	must(t, err)
	t.Cleanup(second.Stop)
	testenv.Eventually(t, 10*time.Second, func() error {
		_, err := b.js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: Stream, Subjects: []string{firesSubject}, Storage: jetstream.FileStorage})
		return err
	})
	g := fires(2)[1:]
	data, err := json.Marshal([]string{g[0].String()})
	must(t, err)
	_, err = b.js.Publish(t.Context(), firesSubject, data)
	must(t, err)
	testenv.Eventually(t, 15*time.Second, func() error {
		if all := got.all(); len(all) != 2 {
			return fmt.Errorf("decided %q, want the fire after the loss too", all)
		}
		return nil
	})
}

// The consumer or the stream is deleted under the dispatcher's hands.
func TestDeletedStreamIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	got := decided(t, b, nil)
	testenv.Eventually(t, 5*time.Second, func() error { return b.PublishFires(t.Context(), fires(1)) })
	got.hears(t, fires(1)[0].String()+" 1")
	must(t, b.js.DeleteStream(t.Context(), Stream))
	g := fires(2)[1:]
	testenv.Eventually(t, 10*time.Second, func() error { return b.PublishFires(t.Context(), g) })
	testenv.Eventually(t, 10*time.Second, func() error {
		if all := got.all(); len(all) != 2 {
			return fmt.Errorf("decided %q, want the fire after the loss too", all)
		}
		return nil
	})
}

// sameAddress is what a server needs to come back under a URL.
func sameAddress(t testing.TB, text string) embedded.NATSOptions {
	t.Helper()
	at, err := url.Parse(text)
	must(t, err)
	port, err := strconv.Atoi(at.Port())
	must(t, err)
	return embedded.NATSOptions{Port: port, Token: at.User.Username()}
}

// A stream that kept what is decided would fill up and then take no more.
func TestAcknowledgedFiresAreRemoved(t *testing.T) {
	t.Parallel()
	srv := testenv.NATS(t)
	b, err := Connect(Options{URLs: []string{srv.URL}, Name: "t", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := b.EnsureStream(ctx); err != nil {
		t.Fatal(err)
	}
	fire := func(n int) core.FireID {
		return core.FireID{Trigger: strings.Repeat("a", 32), Revision: 1, Slot: time.UnixMilli(int64(1000 * n))}
	}
	for n := range 5 {
		if err := b.PublishFires(ctx, []core.FireID{fire(n)}); err != nil {
			t.Fatal(err)
		}
	}
	// All are decided but the fourth.
	decided := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.ConsumeFires(ctx, func(_ context.Context, in Batch) error {
			if in.Fires[0] == fire(3) || in.Fires[0].Slot.Equal(fire(3).Slot) {
				return core.Errorf(core.Unavailable, "not now")
			}
			decided <- struct{}{}
			return nil
		})
	}()
	for range 4 {
		<-decided
	}
	cons, err := b.js.Consumer(ctx, Stream, consumer)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if err := b.dropAcknowledged(ctx, cons); err != nil {
			return err
		}
		s, err := b.js.Stream(ctx, Stream)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx)
		if err == nil && (info.State.Msgs != 2 || info.State.FirstSeq != 4) {
			err = fmt.Errorf("%d messages from %d on, want the undecided fourth and what follows", info.State.Msgs, info.State.FirstSeq)
		}
		return err
	})
	cancel()
	<-done
}
