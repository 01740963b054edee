package queue

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// A task's message is asynq's TaskMessage in protobuf's wire format. What a dispatch
// sets of it is little and always the same, so it is written here field by field:
//
//	1 type  2 payload  3 id  4 queue  5 most retries  8 timeout in seconds
//
// Client.enqueue believes this only as long as asynq's own client writes the same.

// messageSize is more than a message has: two ids of up to 80 bytes, and a queue.
const messageSize = 256

// Wire types of protobuf, which stand in the low bits of a field's tag.
const (
	wireVarint = 0
	wireBytes  = 2
)

// appendMessage appends the message of a dispatch's task.
func appendMessage(b []byte, queue, id string, timeout time.Duration) []byte {
	b = appendText(b, 1, TaskType)
	b = appendText(b, 2, id)
	b = appendText(b, 3, id)
	b = appendText(b, 4, queue)
	b = appendNumber(b, 5, math.MaxInt32)
	return appendNumber(b, 8, uint64(int64(timeout.Seconds()))) //nolint:gosec // protobuf's int64: two's complement
}

func appendText(b []byte, field byte, text string) []byte {
	b = append(b, field<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendNumber(b []byte, field byte, n uint64) []byte {
	b = append(b, field<<3|wireVarint)
	return binary.AppendUvarint(b, n)
}

// taskTimeout is how long asynq lets the task of a dispatch be.
func taskTimeout(d core.Dispatch) time.Duration {
	if d.Timeout == 0 {
		return core.MaxTimeout + beyond
	}
	return d.Timeout + beyond
}
