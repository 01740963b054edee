package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/takt-dev/takt/internal/core"
)

// The fire stream and its one consumer, which all dispatchers share.
const (
	Stream   = "TAKT_FIRES"
	consumer = "takt-dispatch"

	maxAge     = 24 * time.Hour
	duplicates = 2 * time.Minute
	ackWait    = 5 * time.Second

	// MaxFires is how many fires one message carries at most.
	MaxFires = 256
	// MaxTries is how often a fire is delivered before it is decided as failed.
	MaxTries = 20
	// messages a dispatcher holds at a time
	batch = 8
	// publishWait bounds the wait for the stream's answer: that NATS has gone away
	// is not always noticed at once.
	publishWait = 2500 * time.Millisecond
)

// EnsureStream makes or updates the fire stream and its consumer. What is as it has to
// be is left alone: each process asks when it starts and when NATS is back.
func (b *Bus) EnsureStream(ctx context.Context) error {
	var have jetstream.StreamConfig
	switch s, err := b.js.Stream(ctx, Stream); {
	case err == nil:
		have = s.CachedInfo().Config
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return core.Wrap(core.Unavailable, err, "the fire stream cannot be looked up")
	}
	if want := streamConfig(b.streamReplicas(have)); !sameStream(have, want) {
		if _, err := b.js.CreateOrUpdateStream(ctx, want); err != nil {
			return core.Wrap(core.Unavailable, err, "the fire stream cannot be made")
		}
	}
	if c, err := b.js.Consumer(ctx, Stream, consumer); err == nil && sameConsumer(c.CachedInfo().Config, consumerConfig()) {
		return nil
	}
	if _, err := b.js.CreateOrUpdateConsumer(ctx, Stream, consumerConfig()); err != nil {
		return core.Wrap(core.Unavailable, err, "the consumer of the fire stream cannot be made")
	}
	return nil
}

// sameStream compares what streamConfig sets.
func sameStream(a, b jetstream.StreamConfig) bool {
	return a.Name == b.Name && slices.Equal(a.Subjects, b.Subjects) && a.Storage == b.Storage && a.Replicas == b.Replicas &&
		a.Retention == b.Retention && a.Discard == b.Discard && a.MaxAge == b.MaxAge && a.Duplicates == b.Duplicates &&
		a.MaxBytes == b.MaxBytes && a.Description == b.Description
}

// sameConsumer compares what consumerConfig sets.
func sameConsumer(a, b jetstream.ConsumerConfig) bool {
	return a.Durable == b.Durable && a.AckPolicy == b.AckPolicy && a.AckWait == b.AckWait && a.MaxDeliver == b.MaxDeliver &&
		a.MaxAckPending == b.MaxAckPending && a.DeliverPolicy == b.DeliverPolicy
}

func streamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: Stream, Subjects: []string{firesSubject}, Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxAge: maxAge, Duplicates: duplicates,
		MaxBytes: 1 << 30, Description: "slots of triggers on their way to the dispatchers",
	}
}

func consumerConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 1024,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
}

// streamReplicas chooses the replicas of the stream, of which have is what there is.
// Unless it is configured the number is never lowered: a server that has just started
// knows of no other yet.
func (b *Bus) streamReplicas(have jetstream.StreamConfig) int {
	if b.replicas > 0 {
		return b.replicas
	}
	if len(b.nc.DiscoveredServers())+1 >= 3 || len(b.nc.Servers()) >= 3 {
		return max(3, have.Replicas)
	}
	return max(1, have.Replicas)
}

// PublishFires publishes fires, at most MaxFires, in one message and waits until
// the stream has it. The same fires published again within two minutes are one
// message.
func (b *Bus) PublishFires(ctx context.Context, fires []core.FireID) error {
	return b.publish(ctx, fires, true)
}

// Republish publishes fires again although the stream may hold them.
func (b *Bus) Republish(ctx context.Context, fires []core.FireID) error {
	return b.publish(ctx, fires, false)
}

func (b *Bus) publish(ctx context.Context, fires []core.FireID, once bool) error {
	if !b.nc.IsConnected() {
		return core.Errorf(core.Unavailable, "NATS is away")
	}
	ids := make([]string, len(fires))
	for i, f := range fires {
		ids[i] = f.String()
	}
	data, err := json.Marshal(ids)
	if err != nil {
		return core.Wrap(core.Internal, err, "encode fires")
	}
	var opts []jetstream.PublishOpt
	if once {
		sum := sha256.Sum256(data)
		opts = append(opts, jetstream.WithMsgID(hex.EncodeToString(sum[:12])))
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	msg := &nats.Msg{Subject: firesSubject, Data: data}
	_, err = b.js.PublishMsg(ctx, msg, opts...)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		if err := b.EnsureStream(ctx); err != nil {
			return err
		}
		_, err = b.js.PublishMsg(ctx, msg, opts...)
	}
	if err != nil {
		return core.Wrap(core.Unavailable, err, "fires cannot be published now")
	}
	return nil
}

// A Batch is a message of fires.
type Batch struct {
	Fires []core.FireID
	Tries int // deliveries so far, this one included
}

// ConsumeFires hands each message to decide, several at a time, until ctx ends. A
// message is acknowledged when decide returns nil and comes again after one to five
// seconds when it returns an error. While decide works the message is kept from others.
func (b *Bus) ConsumeFires(ctx context.Context, decide func(context.Context, Batch) error) {
	for ctx.Err() == nil {
		if err := b.consume(ctx, decide); err != nil && ctx.Err() == nil {
			b.log.WarnContext(ctx, "fires cannot be received now", "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

func (b *Bus) consume(ctx context.Context, decide func(context.Context, Batch) error) error {
	if !b.nc.IsConnected() {
		return core.Errorf(core.Unavailable, "NATS is away")
	}
	setup, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := b.EnsureStream(setup); err != nil {
		return err
	}
	cons, err := b.js.Consumer(setup, Stream, consumer)
	if err != nil {
		return core.Wrap(core.Unavailable, err, "the consumer of the fire stream is missing")
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(batch), jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return core.Wrap(core.Unavailable, err, "fires cannot be received")
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	sweeping, stopSweep := context.WithCancel(ctx)
	defer stopSweep()
	wg.Go(func() { b.sweep(sweeping, cons) })
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	errs := make(chan error, batch)
	for range batch {
		go func() { errs <- b.receive(ctx, it, decide) }()
	}
	for range batch {
		err = errors.Join(err, <-errs) // the first to fail stops the iterator for all
	}
	return err
}

// receive handles one message after another until the iterator ends. Several goroutines
// share one, and who receives a message handles it: to hand it to another would have it
// wait for that one to wake.
func (b *Bus) receive(ctx context.Context, it jetstream.MessagesContext, decide func(context.Context, Batch) error) error {
	for {
		msg, err := it.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if errors.Is(err, jetstream.ErrNoHeartbeat) && !b.nc.IsConnected() {
			continue // the iterator goes on when NATS is back
		}
		// Silence of a NATS that is there may mean that it lost stream or consumer.
		if err != nil {
			it.Stop()
			return core.Wrap(core.Unavailable, err, "fires cannot be received")
		}
		b.handle(ctx, msg, decide)
	}
}

// sweepPace is how often the stream is freed of fires that are acknowledged: the
// ledger is the record, and a stream that is full takes no more.
const sweepPace = 10 * time.Second

func (b *Bus) sweep(ctx context.Context, cons jetstream.Consumer) {
	tick := time.NewTicker(sweepPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := b.dropAcknowledged(ctx, cons); err != nil && ctx.Err() == nil {
				b.log.DebugContext(ctx, "acknowledged fires not removed", "err", err)
			}
		}
	}
}

// dropAcknowledged removes the messages before the first one that is not
// acknowledged.
func (b *Bus) dropAcknowledged(ctx context.Context, cons jetstream.Consumer) error {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	info, err := cons.Info(ctx)
	if err != nil {
		return core.Wrap(core.Unavailable, err, "the consumer cannot be read")
	}
	stream, err := b.js.Stream(ctx, Stream)
	if err != nil {
		return core.Wrap(core.Unavailable, err, "the fire stream cannot be read")
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(info.AckFloor.Stream+1)); err != nil {
		return core.Wrap(core.Unavailable, err, "the fire stream cannot be purged")
	}
	return nil
}

func (b *Bus) handle(ctx context.Context, msg jetstream.Msg, decide func(context.Context, Batch) error) {
	var ids []string
	meta, err := msg.Metadata()
	if err != nil || json.Unmarshal(msg.Data(), &ids) != nil {
		b.log.ErrorContext(ctx, "message dropped: it holds no fires", "err", err)
		_ = msg.Term()
		return
	}
	in := Batch{Tries: int(meta.NumDelivered)}
	for _, text := range ids {
		f, err := core.ParseFireID(text)
		if err != nil {
			b.log.ErrorContext(ctx, "fire dropped", "err", err)
			continue
		}
		in.Fires = append(in.Fires, f)
	}
	// The decision goes on when the process is asked to stop: it is short.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	late := time.AfterFunc(ackWait/2, func() { keep(ctx, msg) }) // hardly ever: it spares each message a goroutine
	defer late.Stop()
	if err := decide(ctx, in); err != nil {
		b.log.WarnContext(ctx, "fires not decided, they come again", "count", len(in.Fires), "tries", in.Tries, "err", err)
		_ = msg.NakWithDelay(min(time.Duration(in.Tries)*time.Second, ackWait))
		return
	}
	_ = msg.Ack()
}

// keep tells JetStream that a message is being worked on, now and from time to time
// until ctx ends.
func keep(ctx context.Context, msg jetstream.Msg) {
	tick := time.NewTicker(ackWait / 2)
	defer tick.Stop()
	for ctx.Err() == nil {
		_ = msg.InProgress()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
