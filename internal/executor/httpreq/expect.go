package httpreq

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/takt-dev/takt/pkg/executor"
)

// An expectation lists the statuses that count as success.
type expectation []statusRange

// A statusRange is one status or, from n00 to n99, a class.
type statusRange struct{ first, last int }

var errExpect = errors.New(`must be a JSON array of statuses or classes, such as [200,204] or ["2xx",404]`)

func parseExpectation(value string) (expectation, error) {
	if value == "" {
		return expectation{{200, 299}}, nil
	}
	var elements []json.RawMessage
	if json.Unmarshal([]byte(value), &elements) != nil || len(elements) == 0 {
		return nil, errExpect
	}
	expect := make(expectation, len(elements))
	for i, e := range elements {
		r, ok := parseStatusRange(string(bytes.Trim(bytes.TrimSpace(e), `"`)))
		if !ok {
			return nil, errExpect
		}
		expect[i] = r
	}
	return expect, nil
}

func parseStatusRange(text string) (statusRange, bool) {
	if digit, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok {
		if len(digit) != 1 || digit[0] < '1' || digit[0] > '5' {
			return statusRange{}, false
		}
		first := int(digit[0]-'0') * 100
		return statusRange{first, first + 99}, true
	}
	n, err := executor.ParseInteger(text)
	return statusRange{int(n), int(n)}, err == nil && n >= 100 && n <= 599
}

func (e expectation) holds(status int) bool {
	for _, r := range e {
		if r.first <= status && status <= r.last {
			return true
		}
	}
	return false
}

func (e expectation) String() string {
	texts := make([]string, len(e))
	for i, r := range e {
		texts[i] = fmt.Sprint(r.first)
		if r.last > r.first {
			texts[i] = fmt.Sprintf("%dxx", r.first/100)
		}
	}
	return strings.Join(texts, ", ")
}

// hopeless reports whether an unexpected status says that the same request will
// be refused again. All others, 408, 425, 429 and 5xx among them, may pass.
func hopeless(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusGone, http.StatusUnprocessableEntity:
		return true
	}
	return false
}
