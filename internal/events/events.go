// Package events connects Takt's processes over NATS. It is the only place that
// knows NATS.
//
// Two kinds of messages travel. Hints (core NATS) save somebody a wait: a queue
// has work, a trigger has changed, an attempt is to stop. They may be lost; each
// has a slower path that finds the same. Fires (JetStream, stream TAKT_FIRES)
// carry slots from the trigger processes to the dispatchers; the record is the
// ledger in the store, and a fire that stays undecided is published again.
//
// Subjects:
//
//	takt.ring.<queue>   a queue has work
//	takt.trigger        payload: uuid of a trigger that has changed
//	takt.stop.<worker>  payload: id of the dispatch to stop
//	takt.fires          payload: JSON list of fire ids (JetStream)
package events

import (
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/takt-dev/takt/internal/core"
)

const (
	ringSubject    = "takt.ring."
	triggerSubject = "takt.trigger"
	stopSubject    = "takt.stop."
	firesSubject   = "takt.fires"
)

// A Bus is a connection to NATS. It connects again by itself, for ever.
type Bus struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	log      *slog.Logger
	replicas int
	outage   outage
}

// Options configure a Bus.
type Options struct {
	URLs     []string
	Auth     []nats.Option // credentials and TLS
	Name     string        // of the process, as NATS shows it
	Replicas int           // of the fire stream; 0 = 3 where NATS has three servers or more, else 1
	Log      *slog.Logger
	// Up is called with true when the connection is made and false when it is lost.
	Up func(bool)
}

// Connect returns a Bus at once, also while NATS is away: hints are then lost and
// publishing fails until it comes.
func Connect(o Options) (*Bus, error) {
	b := &Bus{log: o.Log, replicas: o.Replicas}
	up := func(is bool) {
		if o.Up != nil {
			o.Up(is)
		}
	}
	opts := append([]nats.Option{
		nats.Name(o.Name), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectBufSize(-1), nats.Timeout(2 * time.Second),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.IgnoreAuthErrorAbort(), // a server whose users are set right later takes us then
		nats.ConnectHandler(func(*nats.Conn) { b.outage.end(); up(true) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.outage.end(); b.log.Info("NATS is back"); up(true) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.outage.tell(b.log, err)
			}
			up(false)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.outage.tell(b.log, err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if refusal(err) {
				b.outage.tell(b.log, err)
				return
			}
			b.log.Warn("NATS", "err", err)
		}),
	}, o.Auth...)
	nc, err := nats.Connect(strings.Join(o.URLs, ","), opts...)
	if err != nil {
		return nil, core.Wrap(core.Invalid, err, "NATS connection is not possible as configured")
	}
	b.nc = nc
	if b.js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, core.Wrap(core.Internal, err, "JetStream")
	}
	if nc.IsConnected() {
		up(true)
	}
	return b, nil
}

// Connected reports whether NATS can be reached now.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// Refused reports whether NATS has been asked since the connection was lost, or at the
// start, and did not let this user in. It is asked again all the while.
func (b *Bus) Refused() bool { return b.outage.isRefused() }

// Close flushes what was published and closes the connection.
func (b *Bus) Close() {
	_ = b.nc.FlushTimeout(time.Second)
	b.nc.Close()
}

// Ring tells the workers that queues have work.
func (b *Bus) Ring(queues []string) {
	for _, q := range queues {
		b.hint(ringSubject+token(q), nil)
	}
}

// RingTrigger tells the trigger processes that a trigger has changed.
func (b *Bus) RingTrigger(trigger string) { b.hint(triggerSubject, []byte(trigger)) }

// Stop tells a worker to stop an attempt.
func (b *Bus) Stop(s core.Stop) { b.hint(stopSubject+token(s.Worker), []byte(s.Dispatch)) }

// hint publishes and forgets: while NATS is away hints are lost.
func (b *Bus) hint(subject string, data []byte) {
	if err := b.nc.Publish(subject, data); err != nil {
		b.log.Debug("hint lost", "subject", subject, "err", err)
	}
}

// OnRing calls ring whenever one of the queues has work, until the Bus closes.
func (b *Bus) OnRing(queues []string, ring func()) error {
	for _, q := range queues {
		if _, err := b.nc.Subscribe(ringSubject+token(q), func(*nats.Msg) { ring() }); err != nil {
			return core.Wrap(core.Unavailable, err, "cannot listen for work")
		}
	}
	return nil
}

// OnTrigger calls changed with the uuid of each trigger that has changed.
func (b *Bus) OnTrigger(changed func(uuid string)) error {
	_, err := b.nc.Subscribe(triggerSubject, func(m *nats.Msg) { changed(string(m.Data)) })
	if err != nil {
		return core.Wrap(core.Unavailable, err, "cannot listen for triggers")
	}
	return nil
}

// OnStop calls stop with the id of each dispatch that this worker is to stop.
func (b *Bus) OnStop(worker string, stop func(dispatch string)) error {
	_, err := b.nc.Subscribe(stopSubject+token(worker), func(m *nats.Msg) { stop(string(m.Data)) })
	if err != nil {
		return core.Wrap(core.Unavailable, err, "cannot listen for cancels")
	}
	return nil
}

// token makes a name fit for one token of a subject.
func token(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '.' || r == '*' || r == '>' || r <= ' ':
			return '_'
		}
		return r
	}, name)
}
