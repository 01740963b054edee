package events

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
)

// An outage is the time without a connection to NATS. The connection is tried four
// times a second, so each of the two reasons is told once until it ends.
type outage struct {
	mu            sync.Mutex
	away, refused bool // told
}

// tell logs why there is no connection.
func (o *outage) tell(log *slog.Logger, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case refusal(err) && !o.refused:
		o.refused = true
		log.Warn("NATS refuses this process: fires wait, everything else goes on", "err", err,
			"do", "check nats.user, nats.password, nats.token and nats.credentialsFile against the server's users")
	case !refusal(err) && !o.away:
		o.away = true
		log.Warn("NATS is away: fires wait, everything else goes on", "err", err)
	}
}

// isRefused reports whether a server has not let us in since the connection was lost.
func (o *outage) isRefused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused
}

func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away, o.refused = false, false
}

// refusal reports whether a server answered and did not let us in.
func refusal(err error) bool {
	for _, is := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
