package httpreq

import (
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/excerpt"
)

// An output is the Output of an attempt, as JSON.
type output struct {
	Status     int               `json:"status"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
	Truncated  bool              `json:"truncated"`
	DurationMs int64             `json:"durationMs"`
}

// shownHeaders are the answer's headers that are kept. Others may set cookies
// or hold tokens.
var shownHeaders = []string{"Content-Type", "Content-Length", "Location", "Date"}

// maxShownHeader bounds one of them: a Location may be as long as a server likes.
const maxShownHeader = 2 << 10

func report(answer *safehttp.Answer, took time.Duration, maxOutput int, hidden redactor) string {
	o := output{Status: answer.Status, Headers: map[string]string{}, DurationMs: took.Milliseconds()}
	for _, name := range shownHeaders {
		if v := answer.Header.Get(name); v != "" {
			o.Headers[strings.ToLower(name)], _ = excerpt.Head(hidden.clean([]byte(v)), maxShownHeader)
		}
	}
	frame, err := excerpt.Marshal(o)
	if err != nil {
		return "" // an output holds nothing that cannot be encoded
	}
	body := hidden.clean(answer.Body)
	if answer.Truncated {
		body = hidden.trim(body)
	}
	kept := body[:min(len(body), maxOutput)]
	var cut bool
	o.Body, cut = excerpt.Head(kept, executor.MaxOutputBytes-len(frame))
	o.Truncated = cut || answer.Truncated || len(kept) < len(body)
	encoded, err := excerpt.Marshal(o)
	if err != nil {
		return ""
	}
	return string(encoded)
}
