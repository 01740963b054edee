package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/bench/house"
)

// bareHops is the reference of the slot row: the servers that a fire passes through
// and nothing else. A timer rings; a message goes through a JetStream stream on disk;
// its consumer asks Redis twice (Takt: look up, admit) and sends a NATS message (the
// ring); who hears that asks Redis twice (take, begin). Each ask is an EXISTS, and
// nothing is computed. It returns how long each of n such paths took, in ms;
// all that stands between them is servers, sockets and idle processors waking up.
func bareHops(ctx context.Context, h *house.House, n int, pace time.Duration) ([]float64, error) {
	nc, err := nats.Connect(h.NATS.URL)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	hears, err := nats.Connect(h.NATS.URL)
	if err != nil {
		return nil, err
	}
	defer hears.Close()
	ended := make(chan time.Time, 1)
	if _, err := hears.Subscribe("bench.ring", func(*nats.Msg) {
		if asks(ctx, h.Redis.Client, 2) == nil {
			ended <- time.Now()
		}
	}); err != nil {
		return nil, err
	}
	if err := hears.Flush(); err != nil {
		return nil, err
	}
	js, stop, err := bareStream(ctx, nc, func() {
		if asks(ctx, h.Redis.Client, 2) == nil {
			_ = nc.Publish("bench.ring", nil)
		}
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	var took []float64
	for at := time.Now().Add(pace); len(took) < n; at = at.Add(pace) {
		if err := pause(ctx, time.Until(at)); err != nil {
			return nil, err
		}
		if _, err := js.PublishAsync("bench.fires", []byte("a fire")); err != nil {
			return nil, err
		}
		select {
		case end := <-ended:
			took = append(took, ms(end.Sub(at)))
		case <-time.After(5 * time.Second):
			return nil, fmt.Errorf("a message did not come through the bare path")
		}
	}
	return took, nil
}

// asks makes so many round trips, one after another.
func asks(ctx context.Context, rdb redis.UniversalClient, n int) error {
	for range n {
		if err := rdb.Exists(ctx, "bench:none").Err(); err != nil {
			return err
		}
	}
	return nil
}

// bareStream makes a stream as the fires have one, with a consumer.
func bareStream(ctx context.Context, nc *nats.Conn, heard func()) (jetstream.JetStream, func(), error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	s, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "BENCH", Subjects: []string{"bench.fires"}, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, nil, err
	}
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return nil, nil, err
	}
	consuming, err := c.Consume(func(m jetstream.Msg) {
		heard()
		_ = m.Ack()
	})
	if err != nil {
		return nil, nil, err
	}
	return js, consuming.Stop, nil
}
