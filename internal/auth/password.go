package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/takt-dev/takt/internal/core"
)

// hashSlots is how many passwords are hashed at a time. Each hash takes 64 MiB
// and a core; unbounded, a burst of sign-ins would take the process down.
const hashSlots = 2

const (
	saltSize = 16
	keySize  = 32
)

// A Digest is the lower-case SHA-512 hex of a password: what ZStack clients
// send as the password. Takt hashes the digest, so that an account signs in
// through every dialect, also through those that send the password itself.
type Digest string

// digestSize is the length of a Digest in hex digits.
const digestSize = 2 * sha512.Size

// DigestOf returns the digest of a password.
func DigestOf(password string) Digest {
	sum := sha512.Sum512([]byte(password))
	return Digest(hex.EncodeToString(sum[:]))
}

// MinPassword is how many characters a new password has at least.
const MinPassword = 8

// CheckPassword says, as an Invalid error on field, why a text cannot become a
// password. It is for who still has the text: a Digest does not tell how long that was.
// Passwords that were given before are not judged by it, and go on signing in.
func CheckPassword(field, password string) error {
	if utf8.RuneCountInString(password) < MinPassword {
		return core.InvalidField(field, "%s must have at least %d characters", field, MinPassword)
	}
	return nil
}

// check says, as an Invalid error on field, why d cannot become a password.
func (d Digest) check(field string) error {
	if _, err := hex.DecodeString(string(d)); err != nil || len(d) != digestSize || d != d.lower() {
		return core.InvalidField(field, "the password must be given as its SHA-512 in %d lower-case hex digits", digestSize)
	}
	if d == DigestOf("") {
		return core.InvalidField(field, "the password must not be empty")
	}
	return nil
}

func (d Digest) lower() Digest { return Digest(strings.ToLower(string(d))) }

// A Cost is what one password hash takes. It is written into each hash: raising
// it leaves older hashes valid, and each is made anew at the next sign-in.
type Cost struct {
	Memory  uint32 // KiB
	Time    uint32 // passes over the memory
	Threads uint8
}

// DefaultCost is 64 MiB and two passes, some 80 ms of one core.
var DefaultCost = Cost{Memory: 64 << 10, Time: 2, Threads: 1}

// below reports whether d asks for more than c.
func (c Cost) below(d Cost) bool { return c.Memory < d.Memory || c.Time < d.Time }

// Bounds of a stored hash's cost. A damaged row must not take the process down.
var mostCost = Cost{Memory: 1 << 20, Time: 64, Threads: 16}

func (c Cost) valid() bool {
	return c.Memory > 0 && c.Time > 0 && c.Threads > 0 &&
		c.Memory <= mostCost.Memory && c.Time <= mostCost.Time && c.Threads <= mostCost.Threads
}

// A passwordHash is a hash and how it was made.
type passwordHash struct {
	cost      Cost
	salt, key []byte
}

var errPasswordHash = errors.New("not a PHC string of argon2id")

// parseHash reads a PHC string: $argon2id$v=19$m=<KiB>,t=<n>,p=<n>$<salt>$<key>
// with both ends in base64 without padding.
func parseHash(phc string) (passwordHash, error) {
	part := strings.Split(phc, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v="+strconv.Itoa(argon2.Version) {
		return passwordHash{}, errPasswordHash
	}
	param := strings.Split(part[3], ",")
	if len(param) != 3 {
		return passwordHash{}, errPasswordHash
	}
	m, err1 := parseParam(param[0], "m=", 32)
	t, err2 := parseParam(param[1], "t=", 32)
	p, err3 := parseParam(param[2], "p=", 8)
	salt, err4 := base64.RawStdEncoding.DecodeString(part[4])
	key, err5 := base64.RawStdEncoding.DecodeString(part[5])
	h := passwordHash{cost: Cost{Memory: uint32(m), Time: uint32(t), Threads: uint8(p)}, salt: salt, key: key}
	if errors.Join(err1, err2, err3, err4, err5) != nil || !h.cost.valid() || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return passwordHash{}, errPasswordHash
	}
	return h, nil
}

func parseParam(s, prefix string, bits int) (uint64, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return 0, errPasswordHash
	}
	return strconv.ParseUint(digits, 10, bits)
}

// String gives the PHC string.
func (h passwordHash) String() string {
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.cost.Memory, h.cost.Time, h.cost.Threads, enc.EncodeToString(h.salt), enc.EncodeToString(h.key))
}

// hasher hands out the slots in which passwords are hashed.
type hasher struct {
	cost   Cost
	decoy  string // a hash that no password has
	slots  chan struct{}
	derive func(password, salt []byte, time, memory uint32, threads uint8, size uint32) []byte
}

func newHasher(cost Cost) *hasher {
	random := make([]byte, saltSize+keySize)
	rand.Read(random)
	decoy := passwordHash{cost: cost, salt: random[:saltSize], key: random[saltSize:]}
	return &hasher{cost: cost, decoy: decoy.String(), slots: make(chan struct{}, hashSlots), derive: argon2.IDKey}
}

// A slot is the right to hash, until release. Hashing is its method, so that
// nothing is hashed without one.
type slot struct{ h *hasher }

// acquire waits for a slot. Exhausted when ctx ends first.
func (h *hasher) acquire(ctx context.Context) (slot, error) {
	select {
	case h.slots <- struct{}{}:
		return slot{h}, nil
	case <-ctx.Done():
		return slot{}, core.Wrap(core.Exhausted, context.Cause(ctx), "too many sign-ins at once; try again shortly")
	}
}

func (s slot) release() { <-s.h.slots }

// hash returns the PHC string of a new hash of d.
func (s slot) hash(d Digest) string {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return passwordHash{cost: s.h.cost, salt: salt, key: s.key(d, salt, s.h.cost, keySize)}.String()
}

// match reports whether phc is a hash of d, and whether it was made at less
// than today's cost.
func (s slot) match(phc string, d Digest) (ok, outdated bool, err error) {
	h, err := parseHash(phc)
	if err != nil {
		return false, false, fmt.Errorf("read password hash: %w", err)
	}
	key := s.key(d, h.salt, h.cost, len(h.key))
	return subtle.ConstantTimeCompare(key, h.key) == 1, h.cost.below(s.h.cost), nil
}

func (s slot) key(d Digest, salt []byte, c Cost, size int) []byte {
	return s.h.derive([]byte(d.lower()), salt, c.Time, c.Memory, c.Threads, uint32(size))
}
