package schedule

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// RulesVersion is the release of the IANA time zone database within this binary.
const RulesVersion = "2025c"

// RulesHash tells databases apart that bear the same version, or whose version
// nobody changed: twelve hex digits of the hash of the database's bytes.
var RulesHash = sync.OnceValue(func() string {
	sum := sha256.Sum256(tzdata)
	return hex.EncodeToString(sum[:6])
})
