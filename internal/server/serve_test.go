package server_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/server"
)

// These tests run the real http.Server over pipes inside a bubble with a clock
// of its own: half a minute passes at once.

// A pipeListener hands out connections without a network.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{make(chan net.Conn), make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial connects, or fails as a network does when nobody listens.
func (l *pipeListener) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	}
}

// A serving is a Server under way.
type serving struct {
	*pipeListener
	stop context.CancelFunc
	end  chan error // what Serve returned
}

func serve(t *testing.T, deps server.Deps) serving {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := serving{newPipeListener(), cancel, make(chan error, 1)}
	srv := newServer(t, deps)
	go func() { s.end <- srv.Serve(ctx, s.pipeListener) }()
	return s
}

// send opens a connection and writes a request's text to it.
func (s serving) send(t *testing.T, text string) net.Conn {
	t.Helper()
	conn, err := s.dial()
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	go io.WriteString(conn, text) // a pipe has no buffer, and the server may hang up before the end
	return conn
}

func answerOn(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return answer
}

const get = "GET /%s HTTP/1.1\r\nHost: takt\r\n\r\n"

func request(path string) string { return strings.Replace(get, "%s", path, 1) }

func TestServeLetsRequestsFinishAndEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var streamEnd, plainEnd error
		slow := api(func(r gin.IRouter) {
			r.GET("/stream", func(c *gin.Context) {
				c.Header("Content-Type", "text/event-stream")
				c.Writer.WriteHeaderNow()
				c.Writer.Flush()
				<-c.Request.Context().Done()
				streamEnd = context.Cause(c.Request.Context())
				c.Writer.WriteString("data: bye\n\n")
			})
			r.GET("/slow", func(c *gin.Context) {
				<-time.After(5 * time.Second)
				plainEnd = c.Request.Context().Err()
				c.String(http.StatusOK, "done")
			})
		})
		s := serve(t, server.Deps{Console: slow, Drain: 10 * time.Second})
		stream, plain := s.send(t, request("stream")), s.send(t, request("slow"))
		streaming := answerOn(t, stream)
		synctest.Wait()

		began := time.Now()
		s.stop()
		text, err := io.ReadAll(streaming.Body)
		if err != nil || string(text) != "data: bye\n\n" {
			t.Errorf("the stream ended with %q, %v; want its last words", text, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stream ended after %v, want at once", took)
		}
		synctest.Wait() // the listener is closed while the last words are on their way
		if _, err := s.dial(); err == nil {
			t.Error("a connection was taken after the stop")
		}
		answer := answerOn(t, plain)
		if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "done" {
			t.Errorf("the slow request got %q, %v; want its whole answer", text, err)
		}
		if err := <-s.end; err != nil {
			t.Errorf("Serve returned %v, want nil", err)
		}
		if !core.Is(streamEnd, core.Unavailable) || !strings.Contains(streamEnd.Error(), "stopping") {
			t.Errorf("the stream's context ended with %v, want that the server is stopping", streamEnd)
		}
		if plainEnd != nil {
			t.Errorf("the slow request's context ended: %v", plainEnd)
		}
	})
}

func TestServeCutsOffWhatOutlastsTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endless := api(func(r gin.IRouter) {
			r.GET("/endless", func(c *gin.Context) { <-c.Request.Context().Done() })
		})
		s := serve(t, server.Deps{Console: endless, Drain: 3 * time.Second})
		s.send(t, request("endless"))
		synctest.Wait()
		began := time.Now()
		s.stop()
		if err := <-s.end; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Serve returned %v, want that the drain time is over", err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("Serve waited %v, want the drain time of 3 s", took)
		}
	})
}

func TestServeTellsThatTheListenerFailed(t *testing.T) {
	l := newPipeListener()
	l.Close()
	if err := newServer(t, server.Deps{}).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v, want the listener's error", err)
	}
}

// readBody answers with what became of reading the request's body.
var readBody = api(func(r gin.IRouter) {
	r.POST("/body", func(c *gin.Context) {
		text, err := io.ReadAll(c.Request.Body)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			c.String(http.StatusRequestEntityTooLarge, "limit %d", tooLarge.Limit)
		case err != nil:
			c.String(http.StatusRequestTimeout, "cut off after %d bytes", len(text))
		default:
			c.String(http.StatusOK, "%d bytes", len(text))
		}
	})
	// A long answer to a request with a body, as a stream may be.
	r.POST("/long", func(c *gin.Context) {
		io.Copy(io.Discard, c.Request.Body)
		select {
		case <-c.Request.Context().Done():
			c.String(http.StatusInternalServerError, "%v", context.Cause(c.Request.Context()))
		case <-time.After(time.Hour):
			c.String(http.StatusOK, "still here")
		}
	})
})

func TestBodyIsBounded(t *testing.T) {
	post := func(path, length, body string) string {
		return "POST /" + path + " HTTP/1.1\r\nHost: takt\r\nContent-Length: " + length + "\r\n\r\n" + body
	}
	chunked := "POST /body HTTP/1.1\r\nHost: takt\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct {
		name, request string
		status        int
		answer        string
		took          time.Duration
	}{
		{"at the limit", post("body", "8", "12345678"), 200, "8 bytes", 0},
		{"beyond it", post("body", "9", "123456789"), 413, "limit 8", 0},
		{"beyond it, length not told", chunked + "9\r\n123456789\r\n0\r\n\r\n", 413, "limit 8", 0},
		{"too slow", post("body", "8", "123"), 408, "cut off after 3 bytes", 30 * time.Second},
		{"long answer", post("long", "3", "123"), 200, "still here", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, server.Deps{Console: readBody, BodyLimit: 8})
				began := time.Now()
				answer := answerOn(t, s.send(t, tt.request))
				text, _ := io.ReadAll(answer.Body)
				if answer.StatusCode != tt.status || string(text) != tt.answer {
					t.Errorf("got %d %q, want %d %q", answer.StatusCode, text, tt.status, tt.answer)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("the answer came after %v, want %v", took, tt.took)
				}
				if tooLarge := answer.StatusCode == 413; tooLarge && !answer.Close {
					t.Error("the connection stays open, and the rest of the body would have to be read")
				}
				s.stop()
				<-s.end
			})
		})
	}
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Deps{})
		conn := s.send(t, "GET / HTTP/1.1\r\nHost:")
		began := time.Now()
		io.Copy(io.Discard, conn)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the connection was closed after %v, want 10 s", took)
		}
		s.stop()
		<-s.end
	})
}
