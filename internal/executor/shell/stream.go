package shell

import (
	"bytes"
	"io"
)

// maxLine is the length at which a line without an end goes to the log in parts.
const maxLine = 8 << 10

// A stream takes one output of a command: whole lines go to the log at once, the
// end is kept. One goroutine writes to it and calls close.
type stream struct {
	log     io.Writer
	pending []byte // the line that has not ended yet
	max     int
	end     []byte // at least the last max bytes, at most twice as many
	cut     bool
}

func newStream(log io.Writer, max int) *stream { return &stream{log: log, max: max} }

// Write never fails: a command must not suffer from where its output goes.
func (s *stream) Write(p []byte) (int, error) {
	s.keep(p)
	s.pending = append(s.pending, p...)
	// One write for all lines that are complete, so that the lines of the two
	// outputs do not mix.
	if whole := bytes.LastIndexByte(s.pending, '\n') + 1; whole > 0 {
		_, _ = s.log.Write(s.pending[:whole])
		s.pending = append(s.pending[:0], s.pending[whole:]...)
	}
	if len(s.pending) >= maxLine {
		s.close()
	}
	return len(p), nil
}

// close ends the line that has not ended.
func (s *stream) close() {
	if len(s.pending) > 0 {
		_, _ = s.log.Write(append(s.pending, '\n'))
		s.pending = s.pending[:0]
	}
}

func (s *stream) keep(p []byte) {
	s.end = append(s.end, p...)
	if over := len(s.end) - s.max; over > 0 {
		s.cut = true
		if over > s.max {
			s.end = append(s.end[:0], s.end[over:]...)
		}
	}
}

// tail returns the last max bytes.
func (s *stream) tail() []byte { return s.end[max(0, len(s.end)-s.max):] }
