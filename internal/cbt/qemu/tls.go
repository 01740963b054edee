package qemu

import (
	_ "embed" // the group below
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// group is the Diffie-Hellman group ffdhe2048 of RFC 7919. A QEMU that finds none
// beside its certificates makes one, and the guest stands still for seconds.
//
//go:embed ffdhe2048.pem
var group []byte

// groupFile is where QEMU looks for it.
const groupFile = "dh-params.pem"

// certs is the directory of certificates that QEMU is given: one of the machine's, with
// links to all that is in the configured one, and the group if that has none.
func (m *machine) certs() (string, error) {
	dir := filepath.Join(m.t.Dir, "tls")
	if err := os.RemoveAll(dir); err != nil { // links to files that are gone
		return "", fmt.Errorf("clear certificates of the machine: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory of certificates: %w", err)
	}
	files, err := os.ReadDir(m.t.Listen.Certs)
	if err != nil {
		return "", fmt.Errorf("read directory of certificates: %w", err)
	}
	own := true
	for _, f := range files {
		err = errors.Join(err, os.Symlink(filepath.Join(m.t.Listen.Certs, f.Name()), filepath.Join(dir, f.Name())))
		own = own && f.Name() != groupFile
	}
	if own {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, groupFile), group, 0o600))
	}
	if err != nil {
		return "", fmt.Errorf("link certificates: %w", err)
	}
	return dir, nil
}
