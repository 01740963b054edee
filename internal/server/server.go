// Package server is the HTTP side of the api process: it gives every request an
// id, a log line, limits and safe headers, and hands it to the API that its path
// belongs to.
//
//	limit body ▶ router ▶ request id ▶ log, metrics ▶ recover ▶ headers ▶ streams ▶ API
//
// The APIs speak different dialects, so also what the server itself has to say
// (no such path, wrong method, a panic) is said in the dialect of the path:
//
//	/zstack, /v1    ZStack's error object
//	/api            problem details, RFC 9457
//	everything else plain text, or what the console makes of it
//
// /healthz says that the process lives, /readyz that it can work. Metrics have a
// listener of their own, which every process may have, with the same two beside them.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// Time limits of the server. The one for reading covers header and body; 1 MiB
// in it is a slow mobile line. There is none for writing: an event stream lasts
// for as long as somebody listens.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 20 * time.Second
)

// maxHeader bounds the header of a request, cookies and query included.
const maxHeader = 64 << 10

// A Mounter is an API that puts its routes under a router. It may have the
// methods of noRouter, noMethoder and failer as well.
type Mounter interface{ Mount(gin.IRouter) }

// Metrics takes one observation for each request. Route is the template, such
// as /api/v1/jobs/:uuid, never the path itself.
type Metrics interface {
	ObserveRequest(method, route string, status int, took time.Duration)
}

// Deps are what a Server serves and needs. An API that is nil is left out.
type Deps struct {
	Native  Mounter // at /api/v1
	ZStack  Mounter // at /zstack/v1 and, once more, at /v1
	Console Mounter // at /

	// Health answers /healthz and /readyz; nil = always ready.
	Health *Health
	// Metrics may be nil.
	Metrics Metrics
	// Log takes a line for each request; nil = slog.Default().
	Log *slog.Logger
	// BodyLimit is the size of the largest request body in bytes; 0 = 1 MiB. A
	// handler that reads beyond it gets an *http.MaxBytesError.
	BodyLimit int64
	// Drain is how long Serve waits for requests under way at its end; 0 = 20 s.
	Drain time.Duration
	// TrustedProxies are the addresses or networks (CIDR) of proxies whose word
	// about a client's address (X-Forwarded-For) is believed; nil = none.
	TrustedProxies []string
}

func (d Deps) withDefaults() Deps {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Health == nil {
		d.Health = NewHealth(nil, d.Log)
	}
	if d.BodyLimit == 0 {
		d.BodyLimit = 1 << 20
	}
	if d.Drain == 0 {
		d.Drain = drainTimeout
	}
	return d
}

// A Server answers the requests of one api process.
type Server struct {
	deps    Deps
	log     *slog.Logger
	doors   []door
	handler http.Handler

	stopping context.Context // done when event streams have to end
	stop     context.CancelFunc
}

// New makes a Server. It returns an error for a trusted proxy that is neither an
// address nor a network.
func New(deps Deps) (*Server, error) {
	deps = deps.withDefaults()
	s := &Server{deps: deps, log: deps.Log, doors: doors(deps)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	router, err := s.router()
	if err != nil {
		return nil, err
	}
	s.handler = s.limitBody(router)
	return s, nil
}

// Handler returns what answers requests, for a server of the caller's own.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests until ctx is done. It then takes no new connections,
// ends event streams, and waits for the requests under way. Those that last
// longer than the drain time are cut off, and an error says so. Serve closes the
// listener and is to be called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	hs := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	s.stop()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.deps.Drain)
	defer cancel()
	if err := hs.Shutdown(drain); err != nil {
		_ = hs.Close()
		return fmt.Errorf("drain http: %w", err)
	}
	return nil
}
