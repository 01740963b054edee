package events

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/takt-dev/takt/internal/testenv"
)

func state(t testing.TB, b *Bus) State {
	t.Helper()
	s, err := b.State(t.Context())
	must(t, err)
	return s
}

func TestStateOfAHealthyStream(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	if s := state(t, b); !s.JetStream || s.Stream != nil || s.Servers != 1 || s.Version == "" {
		t.Errorf("before the first process: %+v, want JetStream and no stream", s)
	}
	must(t, b.EnsureStream(t.Context()))
	must(t, b.PublishFires(t.Context(), fires(1)))
	s := state(t, b)
	if len(s.Stream.Differences) != 0 || s.Stream.Replicas != 1 || s.Stream.Messages != 1 || s.Stream.MaxBytes != 1<<30 || s.Stream.Clustered {
		t.Errorf("stream = %+v, want it as made, with one message", s.Stream)
	}
	if len(s.Consumer.Differences) != 0 || s.Consumer.Pending != 1 || s.Consumer.Waiting != 0 {
		t.Errorf("consumer = %+v, want it as made, with one message pending", s.Consumer)
	}
	heard := decided(t, b, nil)
	heard.hears(t, fires(1)[0].String()+" 1")
	testenv.Eventually(t, 5*time.Second, func() bool {
		s := state(t, b).Consumer
		return s.Pending == 0 && s.Unacked == 0 && s.Waiting > 0
	})
}

func TestStateTellsWhatIsOtherwise(t *testing.T) {
	t.Parallel()
	b := connect(t, testenv.NATS(t))
	wrong, wait := streamConfig(1), consumerConfig()
	wrong.Storage, wrong.Discard, wrong.MaxAge = jetstream.MemoryStorage, jetstream.DiscardOld, time.Hour
	wait.AckWait = time.Minute
	_, err := b.js.CreateStream(t.Context(), wrong)
	must(t, err)
	if s := state(t, b); s.Consumer != nil {
		t.Errorf("consumer = %+v, want none", s.Consumer)
	}
	_, err = b.js.CreateConsumer(t.Context(), Stream, wait)
	must(t, err)
	s := state(t, b)
	want := []Difference{{"storage", "Memory", "File"}, {"discard", "DiscardOld", "DiscardNew"}, {"maximum age", "1h0m0s", "24h0m0s"}}
	if diff := cmp.Diff(want, s.Stream.Differences); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Difference{{"wait for it", "1m0s", "5s"}}, s.Consumer.Differences); diff != "" {
		t.Errorf("consumer (-want +got):\n%s", diff)
	}
}

func TestStateWithoutJetStream(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	at, err := url.Parse(s.ClientURL())
	must(t, err)
	b, err := Connect(Options{URLs: []string{at.String()}, Log: quiet})
	must(t, err)
	t.Cleanup(b.Close)
	testenv.Eventually(t, 5*time.Second, b.Connected)
	if got := state(t, b); got.JetStream {
		t.Errorf("state = %+v, want no JetStream", got)
	}
}

func TestStateOfACluster(t *testing.T) {
	t.Parallel()
	b, err := Connect(Options{URLs: cluster(t, 3), Replicas: 1, Log: quiet})
	must(t, err)
	t.Cleanup(b.Close)
	testenv.Eventually(t, 20*time.Second, func() error { return b.EnsureStream(t.Context()) })
	if s := state(t, b); s.Servers != 3 || s.Stream.Replicas != 1 || !s.Stream.Clustered || s.Stream.Leader == "" {
		t.Errorf("state = %+v, %+v; want three servers, one replica and a leader", s, s.Stream)
	}
	b.replicas = 3
	testenv.Eventually(t, 20*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if b.EnsureStream(ctx) != nil {
			return false
		}
		s, err := b.State(ctx)
		return err == nil && s.Stream.Replicas == 3 && len(s.Stream.Behind) == 0
	})
}
