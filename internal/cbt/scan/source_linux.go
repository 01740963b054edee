package scan

import (
	"os"
	"syscall"
)

// errNoData is how the kernel says that no data follows.
const errNoData = syscall.ENXIO

const adviceDontNeed = 4 // POSIX_FADV_DONTNEED

// forget lets the kernel drop what was read once and will not be read again, so that a
// scan does not empty the host's page cache.
func forget(f *os.File, offset, length uint64) {
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), uintptr(offset), uintptr(length), adviceDontNeed, 0, 0)
}
