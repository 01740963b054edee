package natsreq

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/takt-dev/takt/pkg/executor"
)

// TypeName is the job type that this package executes.
const TypeName = "natsRequest"

const defaultTimeout = 10 * time.Second

// Names of parameters.
const (
	paramSubject = "subject"
	paramPayload = "payload"
	paramHeaders = "headers"
	paramTimeout = "timeout"
	paramMode    = "mode"
)

// Modes.
const (
	modeRequest = "request"
	modePublish = "publish"
)

// Spec describes the type. Its Check knows no allow list, so that an API process
// refuses a malformed request when the job is created; whether the subject is
// allowed is known only to the worker.
func Spec() executor.Spec {
	return executor.Spec{
		Type:        TypeName,
		Description: "Sends a NATS message to an allowed subject and waits for the reply, which is the output.",
		Parameters: []executor.Parameter{
			{Name: paramSubject, Kind: executor.String, Required: true, Description: "Subject without wildcards. It has to match the worker's allow list."},
			{Name: paramPayload, Kind: executor.String, Secret: true, Description: "Message text. Default: empty."},
			{Name: paramHeaders, Kind: executor.StringMap, Secret: true, Description: "Message headers. Nats-Msg-Id is added unless set."},
			{Name: paramTimeout, Kind: executor.Duration, Default: defaultTimeout.String(), Description: "How long to wait for the reply, or in mode publish for the server."},
			{Name: paramMode, Kind: executor.String, Enum: []string{modeRequest, modePublish}, Default: modeRequest, Description: "publish waits for no reply: success means that the server took the message."},
		},
		Check: func(parameters map[string]string) error {
			_, err := parse(parameters)
			return err
		},
	}
}

// A message is what the parameters ask for.
type message struct {
	subject string
	payload string
	header  nats.Header
	timeout time.Duration
	publish bool
}

// parse reads the parameters; errors are *executor.ParameterError.
func parse(parameters map[string]string) (message, error) {
	m := message{payload: parameters[paramPayload]}
	steps := []struct {
		name string
		read func(value string) error
	}{
		{paramSubject, m.readSubject},
		{paramHeaders, m.readHeaders},
		{paramTimeout, m.readTimeout},
		{paramMode, m.readMode},
	}
	for _, s := range steps {
		if err := s.read(parameters[s.name]); err != nil {
			return message{}, &executor.ParameterError{Parameter: s.name, Reason: err.Error()}
		}
	}
	return m, nil
}

func (m *message) readSubject(value string) error {
	m.subject = value
	return checkSubject(value)
}

func (m *message) readHeaders(value string) error {
	m.header = nats.Header{}
	if value == "" {
		return nil
	}
	headers, err := executor.ParseStringMap(value)
	if err != nil {
		return err
	}
	for name, v := range headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			return fmt.Errorf("%.64q is not a header name", name)
		}
		if strings.ContainsAny(v, "\r\n\x00") {
			return fmt.Errorf("the value of header %s holds a line break or a null byte", name)
		}
		m.header.Set(name, v)
	}
	return nil
}

func (m *message) readTimeout(value string) (err error) {
	m.timeout = defaultTimeout
	if value == "" {
		return nil
	}
	if m.timeout, err = time.ParseDuration(value); err != nil || m.timeout <= 0 {
		return errors.New("must be a positive duration such as 10s")
	}
	return nil
}

func (m *message) readMode(value string) error {
	m.publish = value == modePublish
	if value != "" && value != modeRequest && value != modePublish {
		return fmt.Errorf("must be %s or %s", modeRequest, modePublish)
	}
	return nil
}
