package process

import (
	"os"
	"runtime"
	"testing"
)

func TestTheHeapHasAFloor(t *testing.T) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		t.Skip("the collector is set from outside")
	}
	if got := len(heapFloorMemory()); got != heapFloor {
		t.Fatalf("the floor is %d bytes, want %d", got, heapFloor)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var last []byte
	for range heapFloor / 2 >> 10 {
		last = make([]byte, 1<<10)
	}
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(last)
	if n := after.NumGC - before.NumGC; n > 1 { // another test may collect meanwhile
		t.Errorf("the collector ran %d times for %d bytes, want it to wait for the floor", n, heapFloor/2)
	}
}
