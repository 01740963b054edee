package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsReady bounds the start of the server, the recovery of its streams included.
const natsReady = 30 * time.Second

// NATSOptions say how an embedded NATS server runs. The zero value listens on
// any free port.
type NATSOptions struct {
	// Port is a TCP port on 127.0.0.1; 0 means a free one.
	Port int
	// Token is the secret clients show; "" means a new random one.
	Token string
}

// A NATS is a running NATS server within this process.
type NATS struct {
	server *server.Server
	lock   *os.File
	url    string
}

// StartNATS starts a NATS server whose JetStream files lie in dir and returns
// when it takes connections. ErrDirInUse means that another living server uses
// dir.
func StartNATS(dir string, opts NATSOptions) (*NATS, error) {
	opts.Token = cmp.Or(opts.Token, newSecret())
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	s, err := runNATS(dir, opts)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("start nats: %w", err)
	}
	n := &NATS{server: s, lock: lock}
	n.url = (&url.URL{Scheme: "nats", User: url.User(opts.Token), Host: s.Addr().String()}).String()
	return n, nil
}

func runNATS(dir string, opts NATSOptions) (*server.Server, error) {
	port := opts.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{
		Host:            "127.0.0.1",
		Port:            port,
		Authorization:   opts.Token,
		JetStream:       true,
		StoreDir:        filepath.Clean(dir),
		NoSigs:          true, // signals are the process's, not the server's
		NoSystemAccount: true,
	})
	if err != nil {
		return nil, err
	}
	var log natsLog
	s.SetLoggerV2(&log, false, false, false)
	s.Start()
	for end := time.Now().Add(natsReady); log.fatal() == "" && time.Now().Before(end); {
		if s.ReadyForConnections(natsReady / 1000) {
			return s, nil
		}
	}
	s.Shutdown()
	s.WaitForShutdown()
	return nil, errors.New(cmp.Or(log.fatal(), log.String(), "it takes no connections"))
}

// URL is where clients connect, the token included.
func (n *NATS) URL() string { return n.url }

// Stop ends the server, its streams safely on disk, and frees its directory.
// It may be called again.
func (n *NATS) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.lock.Close()
}

// A natsLog keeps the last warnings and errors of the server for the message
// of a failed start. The server only reports what is fatal; it does not end.
type natsLog struct {
	tail
	dead tail
}

func (l *natsLog) fatal() string { return l.dead.String() }

func (l *natsLog) Noticef(string, ...any)            {}
func (l *natsLog) Debugf(string, ...any)             {}
func (l *natsLog) Tracef(string, ...any)             {}
func (l *natsLog) Warnf(format string, args ...any)  { fmt.Fprintf(&l.tail, format+"\n", args...) }
func (l *natsLog) Errorf(format string, args ...any) { fmt.Fprintf(&l.tail, format+"\n", args...) }
func (l *natsLog) Fatalf(format string, args ...any) { fmt.Fprintf(&l.dead, format+"\n", args...) }
