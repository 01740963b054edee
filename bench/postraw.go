package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/raw"
)

// rawPayload is about as large as the payload of a dispatch.
const rawPayload = 64

// rawPost measures what raw.Post does at postConns connections, on a Redis of its own.
func rawPost(ctx context.Context, count int) (perSecond float64, used house.Usage, err error) {
	dir, err := os.MkdirTemp("", "takt-bench-")
	if err != nil {
		return 0, used, err
	}
	defer os.RemoveAll(dir)
	r, err := house.StartRedis(ctx, filepath.Join(dir, "redis"), "")
	if err != nil {
		return 0, used, err
	}
	defer r.Stop()
	if err := raw.Load(ctx, r.Client); err != nil {
		return 0, used, err
	}
	conn, err := asynq.ParseRedisURI(r.URL)
	if err != nil {
		return 0, used, err
	}
	first := asynq.NewClient(conn) // loads asynq's script
	defer func() { _ = first.Close() }()
	if _, err := first.EnqueueContext(ctx, asynq.NewTask("noop", nil)); err != nil {
		return 0, used, err
	}
	handler, end := raw.Post(r.Client, postJobs, rawPayload)
	defer func() { _ = end() }()
	s, err := serve(handler)
	if err != nil {
		return 0, used, err
	}
	defer func() { _ = s.Close() }()
	base := "http://" + s.Addr
	request := postRequest(base, "/runs", "", postBody)
	same := func(int) []byte { return request }
	if _, err := closedLoop(ctx, base, 10*postConns, postConns, same); err != nil {
		return 0, used, fmt.Errorf("raw asynq: %w", err)
	}
	before, err := r.Usage(ctx)
	if err != nil {
		return 0, used, err
	}
	if perSecond, err = closedLoop(ctx, base, count, postConns, same); err != nil {
		return 0, used, fmt.Errorf("raw asynq: %w", err)
	}
	after, err := r.Usage(ctx)
	return perSecond, after.Sub(before), err
}

// serve answers on a port of its own.
func serve(h http.Handler) (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &http.Server{Addr: l.Addr().String(), Handler: h}
	go func() { _ = s.Serve(l) }()
	return s, nil
}
