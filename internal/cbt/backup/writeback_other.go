//go:build !linux

package backup

import "os"

// startWriteback is left to the system.
func startWriteback(*os.File, int64, int64) {}
