package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// A disk holds Redis's files and can run full.
type disk interface {
	dir() string
	// wrap gives the command of a process that lives on the disk.
	wrap(program string, args ...string) *exec.Cmd
	// fill leaves no room for what the process pid writes.
	fill(pid int) error
	free(pid int) error
	close()
}

// openDisk mounts a small disk where that is allowed and wanted; else a limit on
// the size of files stands for its end.
func openDisk(dir string, kind string, size int64) (disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	if kind != "limit" {
		err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
		if err == nil {
			return tmpfs(dir), nil
		}
		if kind == "tmpfs" {
			return nil, fmt.Errorf("mount tmpfs: %w", err)
		}
	}
	// A write beyond the limit is to fail, not to kill; children inherit this.
	signal.Ignore(syscall.SIGXFSZ)
	return &limited{path: dir}, nil
}

// tmpfs is a mounted disk of a fixed size. A ballast file fills it.
type tmpfs string

func (t tmpfs) dir() string     { return string(t) }
func (t tmpfs) ballast() string { return filepath.Join(string(t), "ballast") }

func (t tmpfs) wrap(program string, args ...string) *exec.Cmd { return exec.Command(program, args...) }

func (t tmpfs) fill(int) error {
	f, err := os.Create(t.ballast())
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		switch _, err := f.Write(block); {
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			return fmt.Errorf("fill disk: %w", err)
		}
	}
	return nil
}

func (t tmpfs) free(int) error {
	if err := os.Remove(t.ballast()); err != nil {
		return fmt.Errorf("free disk: %w", err)
	}
	return nil
}

func (t tmpfs) close() { _ = syscall.Unmount(string(t), syscall.MNT_DETACH) } // best effort at the end

// limited is a directory of the common disk; the limit holds for one process.
type limited struct {
	path string
	max  int64 // 0 = none
}

func (l *limited) dir() string { return l.path }

func (l *limited) wrap(program string, args ...string) *exec.Cmd {
	if l.max == 0 {
		return exec.Command(program, args...)
	}
	return exec.Command("prlimit", append([]string{fmt.Sprintf("--fsize=%d:", l.max), program}, args...)...)
}

// fill lets no file grow beyond what the largest one has now.
func (l *limited) fill(pid int) error {
	l.max = 4096
	err := filepath.Walk(l.path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			l.max = max(l.max, info.Size())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	return l.set(pid, fmt.Sprintf("--fsize=%d:", l.max))
}

func (l *limited) free(pid int) error {
	l.max = 0
	return l.set(pid, "--fsize=unlimited:")
}

func (l *limited) set(pid int, limit string) error {
	out, err := exec.Command("prlimit", "--pid", strconv.Itoa(pid), limit).CombinedOutput()
	if err != nil && syscall.Kill(pid, 0) == nil {
		return fmt.Errorf("limit files: %w: %s", err, out)
	}
	return nil // a process that has ended over it is started again
}

func (l *limited) close() {}
