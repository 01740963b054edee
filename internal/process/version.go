package process

import (
	"fmt"
	"io"
	"slices"
)

// SaysVersion reports whether the arguments of a command ask for its version, which is
// on out then, as `takt version` writes it.
func SaysVersion(name string, args []string, out io.Writer) bool {
	if !slices.Contains(args, "--version") && !slices.Contains(args, "-version") {
		return false
	}
	fmt.Fprintln(out, name, Version)
	return true
}
