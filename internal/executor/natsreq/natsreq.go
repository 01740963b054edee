// Package natsreq executes jobs of type natsRequest: one NATS message, judged by
// whether a reply comes.
//
// The message goes through a connection of its own, never Takt's, and only to
// subjects that the worker's configuration lists; by default none. Subjects of
// NATS itself, of replies and of Takt are refused always.
//
// Each message carries the attempt's Key as Nats-Msg-Id, because an attempt may
// be made twice: a stream with a duplicate window takes it once. A reply that
// says Nats-Service-Error-Code, as the services of NATS's micro package do, is a
// failure with that code. Refused subjects and messages that the server does not
// take are permanent failures; all others, nobody listening among them, are tried
// again.
package natsreq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/excerpt"
)

// Headers of a reply by which a service of NATS's micro package reports an error.
const (
	serviceErrorCode = "Nats-Service-Error-Code"
	serviceError     = "Nats-Service-Error"
)

// New returns the type, or an error if an entry of allow is no NATS pattern.
// Without a connection (nil) every Execute fails and says what to configure. The
// caller closes the connection.
func New(conn *nats.Conn, allow []string) (executor.Type, error) {
	patterns, err := parsePatterns(allow)
	if err != nil {
		return executor.Type{}, err
	}
	return executor.Type{Spec: Spec(), Executor: &requester{conn: conn, patterns: patterns}}, nil
}

type requester struct {
	conn     *nats.Conn
	patterns []pattern
}

var _ executor.Executor = (*requester)(nil)

// Execute sends the message. The result's Output is the reply's payload, its
// ExitCode the code of a service's error.
func (r *requester) Execute(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	m, err := parse(a.Parameters)
	if err != nil {
		return executor.Result{}, executor.Permanent(err)
	}
	if err := r.admit(m.subject); err != nil {
		return executor.Result{}, err
	}
	send, what := r.request, modeRequest
	if m.publish {
		send, what = r.publish, modePublish
	}
	fmt.Fprintf(a.Log, "%s %s, %d bytes\n", what, m.subject, len(m.payload))
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, m.overdue())
	defer cancel()
	result, err := send(ctx, m.build(a.Key, r.conn.HeadersSupported()), a)
	if err != nil {
		return result, fmt.Errorf("%s %s: %w", what, m.subject, err)
	}
	return result, nil
}

// overdue is the error of an exchange that takes too long.
func (m message) overdue() error {
	if m.publish {
		return fmt.Errorf("the server did not take the message within %v", m.timeout)
	}
	return fmt.Errorf("no reply within %v", m.timeout)
}

// admit holds the subject and the connection against the configuration.
func (r *requester) admit(subject string) error {
	if err := allowed(r.patterns, subject); err != nil {
		return err
	}
	if r.conn == nil {
		return executor.Permanent(errors.New("this worker has no NATS connection for jobs; to have one, set worker.natsRequest.urls"))
	}
	if inbox := r.conn.Opts.InboxPrefix; inbox != "" && strings.HasPrefix(subject+".", inbox+".") {
		return executor.Permanent(fmt.Errorf("subjects below %s are never allowed", inbox))
	}
	// While the client reconnects it keeps messages and sends them later, when the
	// attempt has long failed.
	if !r.conn.IsConnected() {
		return errors.New("there is no connection to the NATS server of worker.natsRequest at the moment")
	}
	return nil
}

func (m message) build(key string, headers bool) *nats.Msg {
	msg := &nats.Msg{Subject: m.subject, Data: []byte(m.payload), Header: m.header}
	if headers && key != "" && m.header.Get(nats.MsgIdHdr) == "" {
		msg.Header.Set(nats.MsgIdHdr, key)
	}
	return msg
}

func (r *requester) request(ctx context.Context, msg *nats.Msg, a executor.Attempt) (executor.Result, error) {
	before, started := r.conn.LastError(), time.Now()
	reply, err := r.conn.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return executor.Result{}, r.classify(ctx, err, before, msg.Subject)
	}
	fmt.Fprintf(a.Log, "reply of %d bytes in %v\n", len(reply.Data), time.Since(started).Round(time.Millisecond))
	result := executor.Result{Output: text(reply.Data)}
	code := reply.Header.Get(serviceErrorCode)
	if code == "" {
		return result, nil
	}
	result.ExitCode, _ = strconv.Atoi(code) // a service may have words for it
	return result, fmt.Errorf("the service answered with error %s: %s", code, reply.Header.Get(serviceError))
}

func (r *requester) publish(ctx context.Context, msg *nats.Msg, _ executor.Attempt) (executor.Result, error) {
	before := r.conn.LastError()
	err := r.conn.PublishMsg(msg)
	if err == nil {
		// The server answers in order, so it has judged the message by then.
		err = r.conn.FlushWithContext(ctx)
	}
	if err == nil {
		err = r.denial(before, msg.Subject)
	}
	return executor.Result{}, r.classify(ctx, err, before, msg.Subject)
}

// classify says what happened and marks what another attempt meets again.
func (r *requester) classify(ctx context.Context, err, before error, subject string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("nobody listens on this subject: %w", err)
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject),
		errors.Is(err, nats.ErrHeadersNotSupported), errors.Is(err, nats.ErrPermissionViolation):
		return executor.Permanent(err)
	case ctx.Err() == nil:
		return err
	}
	// A request that the server denies gets no reply at all.
	if denied := r.denial(before, subject); denied != nil {
		return executor.Permanent(denied)
	}
	return context.Cause(ctx)
}

// denial returns the server's refusal of the subject if it came since before. The
// client learns of it apart from the message that it is about.
func (r *requester) denial(before error, subject string) error {
	err := r.conn.LastError()
	if err == nil || err == before || //nolint:errorlint // the same occurrence, not the same kind
		!errors.Is(err, nats.ErrPermissionViolation) ||
		!strings.Contains(err.Error(), strconv.Quote(subject)) {
		return nil
	}
	return err
}

// text is the payload as it came if it is JSON that fits, else as much text as
// fits.
func text(payload []byte) string {
	if len(payload) <= executor.MaxOutputBytes && json.Valid(payload) && utf8.Valid(payload) {
		return string(payload)
	}
	head, _ := excerpt.Head(payload, executor.MaxOutputBytes)
	return head
}
