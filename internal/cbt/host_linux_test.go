package cbt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestNeedSpace(t *testing.T) {
	t.Parallel()
	if err := NeedSpace(t.TempDir(), 1); err != nil {
		t.Errorf("one byte: %v", err)
	}
	if err := NeedSpace(t.TempDir(), 1<<60); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got error %v for an exabyte, want ErrNoSpace", err)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if InUse(f) {
		t.Error("a file that nobody writes is in use")
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !InUse(f) {
		t.Error("a file that is open for writing is not in use")
	}
	writer.Close()
	if InUse(f) {
		t.Error("a file is in use after its writer has gone")
	}
}
