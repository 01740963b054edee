//go:build !unix

package embedded

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockDir makes dir and opens its lock file. This system has no flock: two
// servers on one directory are not kept apart here.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	return os.OpenFile(filepath.Join(dir, "takt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
}
