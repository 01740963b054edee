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

// Open opens a file with flags as os.OpenFile takes them. Symbolic links are followed as long as they stay
// below the root: the kernel resolves each part of the path beneath an open
// directory, so no link that is swapped meanwhile leads out.
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

// Check says whether a path, with all links in it resolved, is below a root. It is
// for paths that another process opens. A file that does not exist is judged by its
// directory.
func (r Roots) Check(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if _, there := os.Lstat(path); os.IsNotExist(err) && there != nil { // else it is a link to what is not there
		if real, err = filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			real = filepath.Join(real, filepath.Base(path))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	for _, root := range r {
		if resolved, err := filepath.EvalSymlinks(root); err == nil && below(resolved, real) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrNotAllowed, path)
}

func (r Roots) find(path string) (root, rest string, err error) {
	clean := filepath.Clean(path)
	for _, root := range r {
		if below(root, clean) {
			rest, err := filepath.Rel(root, clean)
			return root, rest, err
		}
	}
	return "", "", fmt.Errorf("%w: %s", ErrNotAllowed, path)
}

func below(root, path string) bool {
	root = strings.TrimSuffix(filepath.Clean(root), "/") + "/"
	return filepath.IsAbs(path) && strings.HasPrefix(path, root)
}
