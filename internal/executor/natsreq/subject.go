package natsreq

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/takt-dev/takt/pkg/executor"
)

// AllowKey is the configuration key of the allow list.
const AllowKey = "worker.natsRequest.allow"

const maxSubject = 512

// reserved are first tokens that no job may use, whatever is allowed: those of the
// NATS system, of JetStream's own interface, of replies, and of Takt.
var reserved = []string{"$SYS", "$JS", "$JSC", "$NRG", "_INBOX", "_R_", "_GR_", "takt"}

// checkSubject returns what makes a text no subject that a job may name.
func checkSubject(subject string) error {
	if len(subject) > maxSubject {
		return fmt.Errorf("is %d bytes long, at most %d are taken", len(subject), maxSubject)
	}
	if strings.ContainsAny(subject, "*>") {
		return fmt.Errorf("%q holds a wildcard; a message goes to one subject", subject)
	}
	return checkTokens(subject)
}

func checkTokens(subject string) error {
	if strings.ContainsFunc(subject, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Errorf("%q holds a blank or a control character", subject)
	}
	tokens := strings.Split(subject, ".")
	if slices.Contains(tokens, "") {
		return fmt.Errorf("%q is not a subject such as orders.create", subject)
	}
	if slices.Contains(reserved, tokens[0]) {
		return fmt.Errorf("subjects below %s are never allowed", tokens[0])
	}
	return nil
}

// A pattern is an entry of the allow list, split into tokens.
type pattern []string

func parsePatterns(allow []string) ([]pattern, error) {
	patterns := make([]pattern, len(allow))
	for i, text := range allow {
		if err := checkPattern(text); err != nil {
			return nil, fmt.Errorf("parse %s entry %d: %w", AllowKey, i+1, err)
		}
		patterns[i] = strings.Split(text, ".")
	}
	return patterns, nil
}

func checkPattern(text string) error {
	if err := checkTokens(text); err != nil {
		return err
	}
	tokens := strings.Split(text, ".")
	for i, token := range tokens {
		if len(token) > 1 && strings.ContainsAny(token, "*>") {
			return fmt.Errorf("%q: a wildcard stands for a whole token", text)
		}
		if token == ">" && i < len(tokens)-1 {
			return errors.New("> stands at the end only")
		}
	}
	return nil
}

// matches reports whether the subject is one of the pattern's: * is any one
// token, > one or more. A wildcard in the first place leaves out the tokens that
// begin with $ or _, which NATS uses itself ($KV, $O); they need naming.
func (p pattern) matches(subject string) bool {
	tokens := strings.Split(subject, ".")
	for i, want := range p {
		if i >= len(tokens) {
			return false
		}
		if i == 0 && want != tokens[0] && strings.ContainsRune("$_", rune(tokens[0][0])) {
			return false
		}
		if want == ">" {
			return true
		}
		if want != "*" && want != tokens[i] {
			return false
		}
	}
	return len(tokens) == len(p)
}

// allowed returns a permanent error unless a pattern matches the subject.
func allowed(patterns []pattern, subject string) error {
	if slices.ContainsFunc(patterns, func(p pattern) bool { return p.matches(subject) }) {
		return nil
	}
	return executor.Permanent(fmt.Errorf("subject %q is not allowed on this worker; to allow it, add it or a pattern such as %q to %s",
		subject, examplePattern(subject), AllowKey))
}

func examplePattern(subject string) string {
	first, _, _ := strings.Cut(subject, ".")
	return first + ".>"
}
