package cbt

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestRoots(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for _, d := range []string{in, in + "/sub", out, in + "-beside"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{in + "/image", in + "/sub/image", out + "/image", in + "-beside/image"} {
		if err := os.WriteFile(f, []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"inside": "sub/image", "outside": "../out/image", "absolute": out + "/image", "dir-outside": "../out",
		"absolute-inside": in + "/sub/image", "dir-inside": in + "/sub", "absolute-self": "/proc/self/exe",
		"proc": "/proc/self/root", "loop": "loop", "dangling": "nowhere", "dangling-outside": "../out/nowhere",
	} {
		if err := os.Symlink(to, filepath.Join(in, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(in, filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		path        string
		open, check bool // allowed
	}{
		{in + "/image", true, true},
		{in + "/sub/../image", true, true},
		{in + "/sub//image", true, true},
		{in + "/inside", true, true},
		{in + "/absolute-inside", true, true},
		{in + "/dir-inside/image", true, true},
		{filepath.Join(dir, "alias") + "/image", true, true}, // leads there, whatever it is called
		{in + "/dir-inside/nothing", false, true},
		{in + "/nothing", false, true}, // it may be made
		{in + "/outside", false, false},
		{in + "/absolute", false, false},
		{in + "/dir-outside/image", false, false},
		{in + "/absolute-self", false, false},
		{in + "/none/image", false, false},
		{in + "/dangling", false, false}, // it could be made to lead anywhere
		{in + "/dangling-outside", false, false},
		{in + "/proc" + out + "/image", false, false},
		{in + "/loop", false, false},
		{in + "/../out/image", false, false},
		{in + "-beside/image", false, false},
		{out + "/image", false, false},
		{"image", false, false},
		{"", false, false},
		{in, false, false},
		{"/proc/self/exe", false, false},
	}
	roots := Roots{in}
	for _, c := range cases {
		f, err := roots.Open(c.path, os.O_RDONLY)
		if (err == nil) != c.open {
			t.Errorf("Open(%q): got error %v, want allowed: %v", c.path, err, c.open)
		}
		if err == nil {
			if data, _ := io.ReadAll(f); len(data) == 0 {
				t.Errorf("Open(%q) gave an empty file", c.path)
			}
			f.Close()
		}
		if err := roots.Check(c.path); (err == nil) != c.check || err != nil && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("Check(%q): got error %v, want allowed: %v", c.path, err, c.check)
		}
	}
	if err := (Roots)(nil).Check(in + "/image"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("no roots: got error %v, want ErrNotAllowed", err)
	}
}

// A root that is a link has the files that it leads to, by either name.
func TestRootThatIsALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, alias := filepath.Join(dir, "in"), filepath.Join(dir, "alias")
	if err := errors.Join(os.Mkdir(in, 0o700), os.WriteFile(in+"/image", nil, 0o600), os.Symlink(in, alias)); err != nil {
		t.Fatal(err)
	}
	roots := Roots{filepath.Join(dir, "none"), alias}
	for _, path := range []string{in + "/image", alias + "/image"} {
		f, err := roots.Open(path, os.O_RDONLY)
		if err := errors.Join(err, roots.Check(path)); err != nil {
			t.Errorf("%s: got error %v", path, err)
			continue
		}
		f.Close()
	}
	if f, err := roots.Open(in+"/nothing", os.O_RDONLY); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrNotAllowed) {
		t.Errorf("of a file that is not there got %v, error %v, want ErrNotExist alone", f, err)
	}
}
