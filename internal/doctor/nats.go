package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/events"
)

// natsWait bounds the wait for JetStream's answers.
const natsWait = 5 * time.Second

// made says who mends stream and consumer.
const made = "api and trigger processes set this when they connect: restart one, or look why they may not"

// stream looks at NATS and the fire stream.
func (c *chart) stream(ctx context.Context) {
	if !c.Stream.Connected() && c.Stream.Refused() {
		c.problem(NATS, "connection", "NATS answers and refuses this user: who signs in so has no fires and no rings",
			"check nats.user, nats.password, nats.token and nats.credentialsFile against the server's users")
		return
	}
	if !c.Stream.Connected() {
		c.problem(NATS, "connection", "NATS does not answer: fires wait, workers poll", "start NATS; check nats.urls, user and password")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, natsWait)
	defer cancel()
	s, err := c.Stream.State(ctx)
	if err != nil {
		c.problem(NATS, "jetstream", err.Error(), "see whether JetStream has a leader, and whether this user may ask $JS.API (the api process's may)")
		return
	}
	c.ok(NATS, "connection", fmt.Sprintf("nats-server %s, %s", s.Version, plural(s.Servers, "server", "servers")))
	if !s.JetStream {
		c.problem(NATS, "jetstream", "JetStream is not switched on for this account", "switch it on (jetstream {} in the server's configuration): triggers cannot fire without")
		return
	}
	c.account(s)
	if s.Stream == nil {
		c.warn(NATS, "stream", "there is no stream "+events.Stream+": no trigger has fired and no api process has connected yet", "start an api process; it makes the stream")
		return
	}
	c.settings("stream", events.Stream+" is as Takt makes it", s.Stream.Differences)
	c.replicas(s)
	c.streamRoom(*s.Stream)
	if s.Consumer == nil {
		c.problem(NATS, "consumer", "the fire stream has no consumer: fires are not decided", "start an api process; it makes the consumer")
		return
	}
	c.settings("consumer", "the dispatchers' consumer is as Takt makes it", s.Consumer.Differences)
	c.backlog(*s.Consumer)
}

func (c *chart) account(s events.State) {
	if s.Limit > 0 && float64(s.Used) > 0.9*float64(s.Limit) {
		c.problem(NATS, "account", fmt.Sprintf("JetStream uses %s of the %s this account may: fires are soon refused", size(s.Used), size(uint64(s.Limit))),
			"raise max_file_store or the account's limit")
		return
	}
	limit := "no limit"
	if s.Limit > 0 {
		limit = size(uint64(s.Limit))
	}
	c.ok(NATS, "account", fmt.Sprintf("JetStream uses %s of %s", size(s.Used), limit))
}

func size(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

func (c *chart) settings(check, fine string, off []events.Difference) {
	if len(off) == 0 {
		c.ok(NATS, check, fine)
		return
	}
	texts := make([]string, len(off))
	do := made
	for i, d := range off {
		texts[i] = fmt.Sprintf("%s is %s, not %s", d.Setting, d.Got, d.Want)
		if d.Setting == "storage" || d.Setting == "retention" {
			do = "delete it (nats stream rm " + events.Stream + ") and restart an api process, which makes it anew: the ledger has what it held"
		}
	}
	c.problem(NATS, check, strings.Join(texts, "; "), do)
}

func (c *chart) replicas(s events.State) {
	st := s.Stream
	switch {
	case st.Clustered && st.Leader == "":
		c.problem(NATS, "replicas", "the fire stream has no leader: fires wait", "bring the other NATS servers back")
	case s.Servers >= 3 && st.Replicas < 3:
		c.warn(NATS, "replicas", fmt.Sprintf("NATS has %d servers, the fire stream %s: fires wait while its server is away", s.Servers, plural(st.Replicas, "replica", "replicas")),
			"restart an api process with all servers up, or say nats stream edit "+events.Stream+" --replicas 3")
	case len(st.Behind) > 0:
		c.warn(NATS, "replicas", "replicas that are away or behind: "+listed(st.Behind), "look at these NATS servers")
	case st.Clustered:
		c.ok(NATS, "replicas", fmt.Sprintf("%s, leader %s", plural(st.Replicas, "replica", "replicas"), st.Leader))
	default:
		c.ok(NATS, "replicas", "one server, one replica")
	}
}

func (c *chart) streamRoom(st events.StreamState) {
	text := fmt.Sprintf("%s of %s in %s", size(st.Bytes), size(uint64(max(st.MaxBytes, 0))), plural(st.Messages, "message", "messages"))
	switch share := float64(st.Bytes) / float64(st.MaxBytes); {
	case st.MaxBytes > 0 && share >= 0.9:
		c.problem(NATS, "room", text+": fires are soon refused", "start api processes, which decide fires and free the stream")
	case st.MaxBytes > 0 && share >= 0.5:
		c.warn(NATS, "room", text, "start api processes, which decide fires and free the stream")
	default:
		c.ok(NATS, "room", text)
	}
}

func (c *chart) backlog(s events.ConsumerState) {
	const many = 1000
	text := fmt.Sprintf("%s to be decided, %d under way, %d of them again", plural(s.Pending, "message", "messages"), s.Unacked, s.Redelivered)
	switch {
	case s.Waiting == 0 && s.Pending > 0:
		c.problem(NATS, "backlog", text+"; nobody asks for them", "start an api process")
	case s.Pending >= many || s.Redelivered > 0:
		c.warn(NATS, "backlog", text, "see the api processes' log for fires that are not decided, and whether partitions are full of waiting steps")
	default:
		c.ok(NATS, "backlog", text)
	}
}
