// Package id makes and reads the identifiers of Takt.
//
// Every identifier is a uuid in ZStack's form: 32 lower-case hex digits without
// dashes. Four kinds exist, told apart by how they come about:
//
//   - random (New): nouns that somebody creates, such as a job or a trigger.
//   - run (Run, DerivedRun): sorts by creation time and names, in its last byte,
//     the partition that holds the run's rows, so that whoever has a run's id
//     finds its keys without a look-up.
//   - derived (Derived, DerivedRun): equal inputs give equal ids, so that a
//     request carried out twice after a crash creates the same row twice and
//     not two rows.
//   - fence (Fence): not a uuid but the random half of a dispatch's fence.
//
// Partition spreads the uuid of a target over the partitions. Its hash is part
// of the stored data: changing it would lose every row already written.
package id

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/google/uuid"
)

// MaxPartitions is the largest number of partitions; a run's id gives its
// partition one byte.
const MaxPartitions = 256

// size is the length of a uuid in bytes, textSize in hex digits.
const (
	size     = 16
	textSize = 2 * size
)

// New returns a random uuid (version 4).
func New() string {
	u := uuid.New()
	return hex.EncodeToString(u[:])
}

// Derived returns the uuid that belongs to seed: the head of its SHA-256 in the
// form of a version 5 uuid, the form every ZStack client takes for a resource.
func Derived(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	return format([size]byte(sum[:size]), 5)
}

// Fence returns 64 random bits as 16 hex digits.
func Fence() string {
	var f [8]byte
	rand.Read(f[:])
	return hex.EncodeToString(f[:])
}

// Valid reports whether s is 32 lower-case hex digits.
func Valid(s string) bool {
	if len(s) != textSize {
		return false
	}
	for i := range len(s) {
		if !isLowerHex(s[i]) {
			return false
		}
	}
	return true
}

// ValidResource reports whether s may name a ZStack resource that a client
// chose itself (resourceUuid): Valid, version 1 to 5, RFC 4122 variant. ZStack's
// pattern is [0-9a-f]{12}[1-5][0-9a-f]{3}[89ab][0-9a-f]{15}.
func ValidResource(s string) bool {
	return Valid(s) && s[12] >= '1' && s[12] <= '5' && isVariant(s[16])
}

// Normalize returns the form Takt stores of a uuid written in any of its usual
// forms: 32 hex digits, or 8-4-4-4-12 with dashes, in either case. It reports
// false, and returns "", for anything else.
func Normalize(s string) (string, bool) {
	if len(s) == textSize+4 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return "", false
		}
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if Valid(s) {
		return s, true
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'F' {
			b[i] = c + 'a' - 'A'
		}
	}
	if s = string(b); !Valid(s) {
		return "", false
	}
	return s, true
}

// Partition returns the partition, 0 to n-1, that holds the rows of the target
// with this uuid: its 64-bit FNV-1a hash modulo n. It is 0 when n is below 2.
func Partition(uuid string, n int) int {
	if n < 2 {
		return 0
	}
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(uuid) {
		h = (h ^ uint64(uuid[i])) * prime
	}
	return int(h % uint64(n))
}

// Run returns a new id for a run made at t in the partition, 0 to
// MaxPartitions-1. It is laid out as a version 7 uuid: 48 bits of Unix
// milliseconds, then random bits, except that the last byte is the partition.
// Ids of different milliseconds sort by time.
func Run(t time.Time, partition int) string {
	var u [size]byte
	rand.Read(u[6 : size-1])
	return formatRun(u, t, partition)
}

// DerivedRun is Run with the random bits taken from the SHA-256 of seed: equal
// arguments (t to the millisecond) give equal ids.
func DerivedRun(t time.Time, partition int, seed string) string {
	sum := sha256.Sum256([]byte(seed))
	return formatRun([size]byte(sum[:size]), t, partition)
}

// RunPartition returns the partition that a run's id names. It reports false
// when id was not made by Run or DerivedRun.
func RunPartition(id string) (int, bool) {
	if !Valid(id) || id[12] != '7' || !isVariant(id[16]) {
		return 0, false
	}
	return int(digit(id[30])<<4 | digit(id[31])), true
}

// RunTime returns the instant, in whole milliseconds UTC, that a run's id was
// made at. It reports false when id was not made by Run or DerivedRun.
func RunTime(id string) (time.Time, bool) {
	if _, ok := RunPartition(id); !ok {
		return time.Time{}, false
	}
	var ms int64
	for i := range 12 {
		ms = ms<<4 | int64(digit(id[i]))
	}
	return time.UnixMilli(ms).UTC(), true
}

// formatRun writes time and partition into u, whose bytes 6 to 14 are random.
func formatRun(u [size]byte, t time.Time, partition int) string {
	if partition < 0 || partition >= MaxPartitions {
		// A wrong partition would file the run where nobody looks for it.
		panic("id: partition out of range")
	}
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	u[size-1] = byte(partition)
	return format(u, 7)
}

// format sets version and RFC 4122 variant and returns the hex digits.
func format(u [size]byte, version byte) string {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	return hex.EncodeToString(u[:])
}

func isLowerHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

func isVariant(c byte) bool { return c == '8' || c == '9' || c == 'a' || c == 'b' }

// digit returns the value of a lower-case hex digit.
func digit(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
