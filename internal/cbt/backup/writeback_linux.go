package backup

import (
	"os"
	"syscall"
)

// startWriteback has the kernel begin to write a stretch of a file to the disk, so that
// little is left for the sync in the end, and a large copy does not fill the memory of
// the host. It is no promise: that is the sync.
func startWriteback(f *os.File, offset, length int64) {
	const begin = 2 // SYNC_FILE_RANGE_WRITE
	_ = syscall.SyncFileRange(int(f.Fd()), offset, length, begin)
}
