package natsreq

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/executortest"
)

const wait = 10 * time.Second

// startServer runs a NATS server in this process. The user "job" may not publish
// to jobs.denied.
func startServer(t *testing.T) *server.Server {
	t.Helper()
	denied := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"jobs.denied"}}}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxPayload: 256 << 10,
		Users: []*server.User{
			{Username: "job", Password: "job", Permissions: denied},
			{Username: "service", Password: "service"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(wait) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

func connect(t *testing.T, s *server.Server, user string, options ...nats.Option) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL(), append(options, nats.UserInfo(user, user))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// serve answers requests to a subject until the test ends.
func serve(t *testing.T, conn *nats.Conn, subject string, answer func(*nats.Msg)) {
	t.Helper()
	if _, err := conn.Subscribe(subject, answer); err != nil {
		t.Fatal(err)
	}
	if err := conn.FlushTimeout(wait); err != nil {
		t.Fatal(err)
	}
}

func newType(t *testing.T, conn *nats.Conn, allow ...string) executor.Type {
	t.Helper()
	typ, err := New(conn, allow)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// execute runs one attempt; parameters are pairs.
func execute(ctx context.Context, t *testing.T, typ executor.Type, log io.Writer, pairs ...string) (executor.Result, error) {
	t.Helper()
	parameters := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		parameters[pairs[i]] = pairs[i+1]
	}
	if err := typ.Spec.Validate(parameters); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	return typ.Executor.Execute(ctx, executor.Attempt{ID: "run:step:1", Key: "run:step", Parameters: parameters, Log: log})
}

func TestConformance(t *testing.T) {
	s := startServer(t)
	service := connect(t, s, "service")
	started := make(chan struct{}, 1)
	serve(t, service, "jobs.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) })
	serve(t, service, "jobs.never", func(*nats.Msg) { started <- struct{}{} })
	secret := []string{"headers", `{"Token":"hunter2"}`, "payload", "swordfish"}
	parameters := func(subject string) map[string]string {
		return map[string]string{"subject": subject, secret[0]: secret[1], secret[2]: secret[3], "timeout": "10m"}
	}
	executortest.Run(t, executortest.Harness{
		Type:    newType(t, connect(t, s, "job"), "jobs.>"),
		Success: parameters("jobs.echo"),
		Failure: parameters("jobs.nobody"),
		Blocking: func(testing.TB) (map[string]string, <-chan struct{}) {
			return parameters("jobs.never"), started
		},
		Secrets: []string{"hunter2", "swordfish"},
	})
}

func TestRequestCarriesWhatTheParametersSay(t *testing.T) {
	s := startServer(t)
	serve(t, connect(t, s, "service"), "jobs.look", func(m *nats.Msg) {
		seen, _ := json.Marshal(map[string]any{"data": string(m.Data), "header": m.Header})
		_ = m.Respond(seen)
	})
	typ := newType(t, connect(t, s, "job"), "jobs.look")
	tests := []struct {
		name  string
		pairs []string
		want  string
	}{
		{"defaults", nil, `{"data":"","header":{"Nats-Msg-Id":["run:step"]}}`},
		{"payload and headers", []string{"payload", "hello", "headers", `{"trace":"a b","X":""}`, "mode", "request"},
			`{"data":"hello","header":{"Nats-Msg-Id":["run:step"],"X":[""],"trace":["a b"]}}`},
		{"own message id", []string{"headers", `{"Nats-Msg-Id":"mine"}`}, `{"data":"","header":{"Nats-Msg-Id":["mine"]}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			result, err := execute(t.Context(), t, typ, &log, append(tt.pairs, "subject", "jobs.look")...)
			if err != nil || result.Output != tt.want || result.ExitCode != 0 {
				t.Errorf("result %+v, error %v, want output %s", result, err, tt.want)
			}
			if !strings.Contains(log.String(), "request jobs.look") || !strings.Contains(log.String(), "reply of ") {
				t.Errorf("log %q, want the request and its reply", log.String())
			}
		})
	}
}

func TestOutputIsBoundedText(t *testing.T) {
	large := `"` + strings.Repeat("x", executor.MaxOutputBytes) + `"`
	tests := []struct {
		name, reply, want string
	}{
		{"JSON", `{"a": "<b>"}`, `{"a": "<b>"}`},
		{"JSON of the largest size", large[:executor.MaxOutputBytes-1] + `"`, large[:executor.MaxOutputBytes-1] + `"`},
		{"JSON too large", large, ""},
		{"text", "plain\ntext", "plain\ntext"},
		{"nothing", "", ""},
		{"bytes", "a\xff\xfeb", "a\ufffd\ufffdb"},
		{"bytes within JSON", "\"\xff\"", "\"\ufffd\""},
		{"text too large", strings.Repeat("\xff", executor.MaxOutputBytes), ""},
	}
	s := startServer(t)
	service := connect(t, s, "service")
	typ := newType(t, connect(t, s, "job"), "jobs.echo")
	serve(t, service, "jobs.echo", func(m *nats.Msg) { _ = m.Respond([]byte(tests[len(m.Data)].reply)) })
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, err := execute(t.Context(), t, typ, io.Discard, "subject", "jobs.echo", "payload", strings.Repeat("x", i))
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Output) > executor.MaxOutputBytes {
				t.Errorf("output is %d bytes long", len(result.Output))
			}
			if tt.want == "" && tt.reply != "" {
				if len(result.Output) < executor.MaxOutputBytes-3 {
					t.Errorf("output is %d bytes long, want all of the room used", len(result.Output))
				}
			} else if result.Output != tt.want {
				t.Errorf("output %.40q, want %.40q", result.Output, tt.want)
			}
		})
	}
}

func TestServiceErrorIsAFailure(t *testing.T) {
	s := startServer(t)
	serve(t, connect(t, s, "service"), "jobs.fail", func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Data: []byte("details"), Header: nats.Header{
			"Nats-Service-Error-Code": {"503"}, "Nats-Service-Error": {"no disk"},
		}})
	})
	result, err := execute(t.Context(), t, newType(t, connect(t, s, "job"), "jobs.*"), io.Discard, "subject", "jobs.fail")
	if err == nil || !strings.Contains(err.Error(), "error 503: no disk") || executor.IsPermanent(err) {
		t.Errorf("error %v, want the service's, not permanent", err)
	}
	if want := (executor.Result{Output: "details", ExitCode: 503}); result != want {
		t.Errorf("result %+v, want %+v", result, want)
	}
}

func TestPublish(t *testing.T) {
	s := startServer(t)
	got := make(chan *nats.Msg, 1)
	serve(t, connect(t, s, "service"), "jobs.note", func(m *nats.Msg) { got <- m })
	typ := newType(t, connect(t, s, "job"), "jobs.>")
	result, err := execute(t.Context(), t, typ, io.Discard, "subject", "jobs.note", "payload", "hello", "mode", "publish")
	if err != nil || result != (executor.Result{}) {
		t.Fatalf("result %+v, error %v, want neither", result, err)
	}
	m := <-got
	if string(m.Data) != "hello" || m.Reply != "" || m.Header.Get(nats.MsgIdHdr) != "run:step" {
		t.Errorf("message %+v, want the payload with the key and no reply", m)
	}
	if _, err := execute(t.Context(), t, typ, io.Discard, "subject", "jobs.nobody", "mode", "publish"); err != nil {
		t.Errorf("publishing where nobody listens: %v, want no error", err)
	}
}

func TestFailures(t *testing.T) {
	s := startServer(t)
	serve(t, connect(t, s, "service"), "jobs.never", func(*nats.Msg) {})
	conn := connect(t, s, "job", nats.CustomInboxPrefix("replies.job"))
	ready := newType(t, conn, "jobs.>", "replies.>")
	closed := connect(t, s, "job")
	closed.Close()
	tests := []struct {
		name      string
		typ       executor.Type
		pairs     []string
		want      string
		permanent bool
	}{
		{"nobody listens", ready, []string{"subject", "jobs.nobody"}, "request jobs.nobody: nobody listens on this subject", false},
		{"no reply", ready, []string{"subject", "jobs.never", "timeout", "30ms"}, "no reply within 30ms", false},
		{"too large", ready, []string{"subject", "jobs.never", "payload", strings.Repeat("x", 256<<10)}, "maximum payload", true},
		{"publishing too much", ready, []string{"subject", "jobs.never", "mode", "publish", "payload", strings.Repeat("x", 256<<10)}, "maximum payload", true},
		{"denied by the server", ready, []string{"subject", "jobs.denied", "timeout", "100ms"}, "permissions violation", true},
		{"publishing denied by the server", ready, []string{"subject", "jobs.denied", "mode", "publish"}, "permissions violation", true},
		{"the connection's own replies", ready, []string{"subject", "replies.job.x"}, "below replies.job are never", true},
		{"not allowed", newType(t, conn, "orders.>"), []string{"subject", "jobs.never"}, `a pattern such as "jobs.>" to ` + AllowKey, true},
		{"nothing allowed", newType(t, conn), []string{"subject", "jobs.never"}, AllowKey, true},
		{"no connection configured", newType(t, nil, "jobs.>"), []string{"subject", "jobs.never"}, "set worker.natsRequest.urls", true},
		{"no connection at the moment", newType(t, closed, "jobs.>"), []string{"subject", "jobs.never"}, "no connection", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := execute(t.Context(), t, tt.typ, io.Discard, tt.pairs...)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) || executor.IsPermanent(err) != tt.permanent {
				t.Errorf("error %v, permanent %v, want %q, permanent %v", err, executor.IsPermanent(err), tt.want, tt.permanent)
			}
		})
	}
}

// An earlier denial is no reason to refuse what the server takes by now.
func TestEarlierDenialIsForgotten(t *testing.T) {
	s := startServer(t)
	conn := connect(t, s, "job")
	typ := newType(t, conn, "jobs.>")
	if _, err := execute(t.Context(), t, typ, io.Discard, "subject", "jobs.denied", "mode", "publish"); err == nil {
		t.Fatal("the server did not deny jobs.denied")
	}
	r := typ.Executor.(*requester)
	if err := r.denial(conn.LastError(), "jobs.denied"); err != nil {
		t.Errorf("denial = %v for one that came before, want nil", err)
	}
	if _, err := execute(t.Context(), t, typ, io.Discard, "subject", "jobs.note", "mode", "publish"); err != nil {
		t.Errorf("publishing elsewhere after a denial: %v", err)
	}
}

func TestCauseIsTold(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	serve(t, connect(t, s, "service"), "jobs.never", func(*nats.Msg) { cancel(executor.ErrReleased) })
	_, err := execute(ctx, t, newType(t, connect(t, s, "job"), "jobs.>"), io.Discard, "subject", "jobs.never")
	if !errors.Is(err, executor.ErrReleased) || executor.IsPermanent(err) {
		t.Errorf("error %v, want the cause, not permanent", err)
	}
}

func TestSpecIsForBothModes(t *testing.T) {
	for _, p := range Spec().Parameters {
		if p.Name == paramMode {
			if diff := cmp.Diff([]string{"request", "publish"}, p.Enum); diff != "" {
				t.Errorf("modes (-want +got):\n%s", diff)
			}
		}
	}
}
