package cbt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Roots are the directories below which a worker may open images and sockets.
// None allows nothing.
type Roots []string

// Open opens a file with flags as os.OpenFile takes them, if Check allows it. What the
// links of the path led to is opened beneath an open directory, each part by itself, so
// no link that is swapped meanwhile leads out of the root.
// ErrNotAllowed: the path is below no root.
func (r Roots) Open(path string, flag int) (*os.File, error) {
	root, rest, err := r.find(path)
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	defer func() { _ = dir.Close() }() // only looked into
	f, err := dir.OpenFile(rest, flag, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return f, nil
}

// Check says whether a path, with all links in it and in the roots followed, is below a
// root. It is for paths that another process opens. A file that does not exist is judged
// by its directory. ErrNotAllowed: it is not, or that cannot be told.
func (r Roots) Check(path string) error {
	_, _, err := r.find(path)
	return err
}

// find follows the links of a path and of the roots, and gives the first root that the
// path is below, and the rest of it from there.
func (r Roots) find(path string) (root, rest string, err error) {
	real, err := follow(path)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	for _, root := range r {
		resolved, err := filepath.EvalSymlinks(root)
		if err != nil || !below(resolved, real) {
			continue
		}
		rest, err := filepath.Rel(resolved, real)
		return resolved, rest, err
	}
	return "", "", fmt.Errorf("%w: %s", ErrNotAllowed, path)
}

// follow is a path without links. Its last part need not exist; a link there that leads
// to nothing could be made to lead anywhere, and is an error.
func follow(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if _, there := os.Lstat(path); os.IsNotExist(err) && there != nil {
		dir, name := filepath.Split(path)
		if real, err = filepath.EvalSymlinks(dir); err == nil {
			real = filepath.Join(real, name)
		}
	}
	return real, err
}

// BackingPath is where an image lies that another, which was opened by the name opened,
// calls name. As in QEMU a relative name begins at the directory of opened, whatever
// links lead to the file, and what ".." means is left to the kernel.
func BackingPath(opened, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	dir, _ := filepath.Split(opened)
	return dir + name
}

func below(root, path string) bool {
	root = strings.TrimSuffix(filepath.Clean(root), "/") + "/"
	return filepath.IsAbs(path) && strings.HasPrefix(path, root)
}
