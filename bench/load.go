package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A small HTTP client: one prepared request on a kept connection. net/http's own
// costs as much CPU as a handler, on the same two cores.
type httpConn struct {
	nc net.Conn
	r  *bufio.Reader
}

func dialHTTP(base string) (*httpConn, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	return &httpConn{nc, bufio.NewReader(nc)}, nil
}

// postRequest prepares a POST of a JSON body.
func postRequest(base, path, token, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, strings.TrimPrefix(base, "http://"), len(body))
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	fmt.Fprintf(&b, "\r\n%s", body)
	return b.Bytes()
}

// do sends a request and reads the answer; a status above 299 is an error.
func (c *httpConn) do(request []byte) error {
	if _, err := c.nc.Write(request); err != nil {
		return err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 || line[9] != '2' {
		return fmt.Errorf("the server answered %q", bytes.TrimSpace(line))
	}
	length := -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); textproto.CanonicalMIMEHeaderKey(string(name)) == "Content-Length" {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("the answer has no length")
	}
	_, err = c.r.Discard(length)
	return err
}

// openLoop sends requests at a steady rate, whether or not the earlier ones are
// answered, and returns how long each took from the moment it was due: a server
// that stalls is not spared the requests of that time.
func openLoop(ctx context.Context, base string, rate, count, conns int, request func(i int) []byte) ([]time.Duration, error) {
	due := make(chan int, count)
	took := make([]time.Duration, count)
	var failed atomic.Value
	var wg sync.WaitGroup
	start := time.Now().Add(50 * time.Millisecond)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second / time.Duration(rate)) }
	for range conns {
		c, err := dialHTTP(base)
		if err != nil {
			return nil, err
		}
		defer c.nc.Close()
		wg.Go(func() {
			for i := range due {
				if err := c.do(request(i)); err != nil {
					failed.Store(fmt.Errorf("request %d: %w", i, err))
					return
				}
				took[i] = time.Since(at(i))
			}
		})
	}
	// Go's timers are a millisecond late on a machine at rest; the system's sleep is not.
	runtime.LockOSThread()
	for i := range count {
		if wait := time.Until(at(i)); wait > 0 {
			ts := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&ts, nil)
		}
		due <- i
	}
	runtime.UnlockOSThread()
	close(due)
	wg.Wait()
	if err, _ := failed.Load().(error); err != nil {
		return nil, err
	}
	return took, ctx.Err()
}

// closedLoop sends requests from so many connections, each as soon as the one
// before is answered, and returns requests per second.
func closedLoop(ctx context.Context, base string, count, conns int, request func(i int) []byte) (float64, error) {
	var next atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	open := make([]*httpConn, conns)
	for i := range open {
		c, err := dialHTTP(base)
		if err != nil {
			return 0, err
		}
		defer c.nc.Close()
		open[i] = c
	}
	began := time.Now()
	for _, c := range open {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count || ctx.Err() != nil {
					return
				}
				if err := c.do(request(i)); err != nil {
					failed.Store(fmt.Errorf("request %d: %w", i, err))
					return
				}
			}
		})
	}
	wg.Wait()
	if err, _ := failed.Load().(error); err != nil {
		return 0, err
	}
	return float64(count) / time.Since(began).Seconds(), ctx.Err()
}
