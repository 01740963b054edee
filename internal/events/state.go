package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/takt-dev/takt/internal/core"
)

// A State is what NATS says of itself and of the fire stream at one moment.
type State struct {
	Version   string
	Servers   int  // that the connection knows of
	JetStream bool // whether it is switched on for this account
	Used      uint64
	Limit     int64 // bytes of files the account may have; -1 = no limit
	Stream    *StreamState
	Consumer  *ConsumerState
}

// A StreamState is the fire stream's.
type StreamState struct {
	Differences     []Difference // from the settings Takt makes it with, replicas aside
	Replicas        int
	Leader          string   // "" where NATS is one server, or has none now
	Clustered       bool     // NATS is a cluster
	Behind          []string // replicas that are offline or not current
	Messages, Bytes uint64
	MaxBytes        int64
	FirstAt         time.Time // of the oldest message
}

// A ConsumerState is the dispatchers'.
type ConsumerState struct {
	Differences []Difference
	Pending     uint64 // not delivered yet
	Unacked     int    // delivered, not acknowledged
	Redelivered int
	Waiting     int // dispatchers that ask for more
}

// A Difference is a setting that is not as Takt makes it.
type Difference struct{ Setting, Got, Want string }

// State asks NATS for the state of the fire stream and its consumer, and changes
// nothing. Stream or Consumer is nil where there is none.
func (b *Bus) State(ctx context.Context) (State, error) {
	s := State{Version: b.nc.ConnectedServerVersion(), Servers: max(len(b.nc.DiscoveredServers())+1, len(b.nc.Servers()))}
	account, err := b.js.AccountInfo(ctx)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return s, nil
	}
	if err != nil {
		return s, core.Wrap(core.Unavailable, err, "JetStream does not answer")
	}
	s.JetStream, s.Used, s.Limit = true, account.Store, account.Limits.MaxStore
	stream, err := b.js.Stream(ctx, Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s, nil
	}
	if err != nil {
		return s, core.Wrap(core.Unavailable, err, "the fire stream cannot be read")
	}
	s.Stream = streamState(stream.CachedInfo())
	cons, err := stream.Consumer(ctx, consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return s, nil
	}
	if err != nil {
		return s, core.Wrap(core.Unavailable, err, "the consumer of the fire stream cannot be read")
	}
	s.Consumer = consumerState(cons.CachedInfo())
	return s, nil
}

func streamState(info *jetstream.StreamInfo) *StreamState {
	got, want := info.Config, streamConfig(info.Config.Replicas)
	out := &StreamState{
		Replicas: got.Replicas, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: got.MaxBytes, FirstAt: info.State.FirstTime,
	}
	out.Differences = differences(
		"subjects", got.Subjects, want.Subjects, "storage", got.Storage, want.Storage, "retention", got.Retention, want.Retention,
		"discard", got.Discard, want.Discard, "maximum age", got.MaxAge, want.MaxAge, "window for duplicates", got.Duplicates, want.Duplicates,
		"maximum bytes", got.MaxBytes, want.MaxBytes,
	)
	if c := info.Cluster; c != nil {
		out.Leader, out.Clustered = c.Leader, c.Name != ""
		for _, peer := range c.Replicas {
			if peer.Offline || !peer.Current {
				out.Behind = append(out.Behind, peer.Name)
			}
		}
	}
	return out
}

func consumerState(info *jetstream.ConsumerInfo) *ConsumerState {
	got, want := info.Config, consumerConfig()
	return &ConsumerState{
		Differences: differences("acknowledgement", got.AckPolicy, want.AckPolicy, "wait for it", got.AckWait, want.AckWait,
			"maximum deliveries", got.MaxDeliver, want.MaxDeliver, "maximum unacknowledged", got.MaxAckPending, want.MaxAckPending,
			"delivery", got.DeliverPolicy, want.DeliverPolicy),
		Pending: info.NumPending, Unacked: info.NumAckPending, Redelivered: info.NumRedelivered, Waiting: info.NumWaiting,
	}
}

// differences takes name, got and want by turns.
func differences(triples ...any) (out []Difference) {
	for i := 0; i+2 < len(triples); i += 3 {
		got, want := fmt.Sprint(triples[i+1]), fmt.Sprint(triples[i+2])
		if got != want {
			out = append(out, Difference{fmt.Sprint(triples[i]), got, want})
		}
	}
	return out
}
