package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers with the registry's metrics in Prometheus' formats.
func Handler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
}

// A Server serves /metrics, and what is given beside it, on a listener of its own, apart from the APIs, as
// whoever may read numbers need not reach those.
type Server struct {
	listener net.Listener
	http     http.Server
}

// Listen takes address, such as 127.0.0.1:9464 (port 0: a free one), for a
// Server that Run starts. beside are further routes by pattern, as http.ServeMux
// reads it. An address that is taken is an error here already.
func Listen(address string, registry *prometheus.Registry, beside map[string]http.HandlerFunc) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", Handler(registry))
	for pattern, handler := range beside {
		mux.Handle(pattern, handler)
	}
	return &Server{
		listener: listener,
		http:     http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second},
	}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, then lets requests finish for up to two seconds.
// It returns nil after an orderly end, and is called once.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := s.http.Shutdown(grace)
	if err != nil {
		_ = s.http.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop serving metrics: %w", err)
	}
	return nil
}
