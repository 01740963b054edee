package process

import (
	"os"
	"sync"
)

// heapFloor is memory that counts as in use and is never touched, so that the system
// never provides it. A process of ours has a few megabytes in use, and the collector runs
// when that has doubled: some hundred times a second under load, a tenth to a fifth of
// all its work. Above the floor it runs when 32 MiB and more were allocated.
//
// A higher GOGC would do the same for a small heap, but would also let a large one, as of
// a hundred thousand triggers, take several times its size.
const heapFloor = 32 << 20

var heapFloorMemory = sync.OnceValue(func() []byte {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil // somebody knows better
	}
	return make([]byte, heapFloor)
})
