package shell

import (
	"bytes"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/excerpt"
)

// An output is the Output of an attempt, as JSON. Stdout and Stderr are the ends
// of what the command wrote.
type output struct {
	ExitCode   int    `json:"exitCode"`
	Signal     string `json:"signal,omitempty"` // that ended the command
	Stdout     string `json:"stdout"`
	Stderr     string `json:"stderr"`
	Truncated  bool   `json:"truncated"`
	DurationMs int64  `json:"durationMs"`
}

// report fits both ends into the output: each has the room that the other one
// does not need, and half of it for certain.
func report(e ending, took time.Duration, stdout, stderr *stream) string {
	o := output{ExitCode: e.code, Signal: e.signal, DurationMs: took.Milliseconds()}
	frame, err := excerpt.Marshal(o)
	if err != nil {
		return "" // an output holds nothing that cannot be encoded
	}
	room := executor.MaxOutputBytes - len(frame)
	var cutOut, cutErr bool
	o.Stderr, cutErr = excerpt.Tail(stderr.tail(), max(room/2, room-excerpt.Size(stdout.tail())))
	o.Stdout, cutOut = excerpt.Tail(stdout.tail(), room-excerpt.Size([]byte(o.Stderr)))
	o.Truncated = cutOut || cutErr || stdout.cut || stderr.cut
	encoded, err := excerpt.Marshal(o)
	if err != nil {
		return ""
	}
	return string(encoded)
}

// lastLine returns the last line with something in it, for an error to quote.
func lastLine(text []byte) string {
	text = bytes.TrimSpace(text)
	line := bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:])
	short, _ := excerpt.Head(line, 200)
	return short
}
