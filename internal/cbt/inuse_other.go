//go:build !linux

package cbt

import "os"

// InUse cannot be found out on this system; images count as used, which is the safe
// side.
func InUse(*os.File) bool { return true }
