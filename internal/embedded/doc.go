// Package embedded starts the servers that Takt leans on inside, or as a child
// of, the calling process, so that "takt dev" and the tests need no set-up.
//
//	StartNATS         NATS with JetStream on disk, in this process
//	StartRedis        a private redis-server child with an append-only file
//	StartMemoryRedis  an imitation of Redis in memory, for trying Takt out
//
// All of them listen on loopback or on a unix socket only and demand a secret
// that is made anew at each start, so that other users of the machine cannot
// use them. What is kept on disk lies in one directory, which one server at a
// time may use (see lockDir). A server ends with Stop, and a redis-server child
// ends with its parent even when the parent is killed (on Linux).
package embedded

import (
	"crypto/rand"
	"encoding/hex"
)

// newSecret returns 128 random bits as hex digits.
func newSecret() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}
