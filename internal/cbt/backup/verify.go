package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/takt-dev/takt/internal/cbt"
)

// Verify reads each file of a chain once and compares it with its sum. The error is
// ErrDamaged and names all that is wrong: the backup, the volume and what it is.
func (s Set) Verify(ctx context.Context, chain []cbt.Backup, progress func(done, total uint64)) error {
	v := &verifying{Set: s, progress: progress}
	for _, b := range chain {
		for _, f := range b.Files {
			if info, err := os.Stat(s.path(b, f)); err == nil {
				v.total += uint64(info.Size()) //nolint:gosec // never negative
			}
		}
	}
	var wrong []string
	for _, b := range chain {
		if err := v.sheet(b); err != nil {
			wrong = append(wrong, err.Error())
		}
		for _, f := range b.Files {
			err := v.file(ctx, s.path(b, f), f)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				wrong = append(wrong, fmt.Sprintf("volume %s of backup %s: %v", f.Volume, s.name(b.Seq), err))
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDamaged, strings.Join(wrong, "; "))
}

func (s Set) path(b cbt.Backup, f cbt.BackupFile) string {
	return filepath.Join(s.Dir(b.Seq), filepath.Base(f.Name))
}

// verifying is one call of Verify.
type verifying struct {
	Set
	progress    func(done, total uint64)
	done, total uint64
}

// sheet compares what lies with a backup with what is recorded of it. Where it lies may
// have changed.
func (v *verifying) sheet(b cbt.Backup) error {
	sheet, err := v.Read(b.Seq)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is missing", v.name(b.Seq))
	}
	if err != nil {
		return err
	}
	if sheet.Backup.Base != b.Base || !slices.Equal(sheet.Backup.Files, b.Files) {
		return fmt.Errorf("%s of %s is of another backup", sheetName, v.name(b.Seq))
	}
	return nil
}

func (v *verifying) file(ctx context.Context, path string, want cbt.BackupFile) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is missing", want.Name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sum, buffer := newSum(), make([]byte, piece)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(f, buffer)
		_, _ = sum.Write(buffer[:n]) // never fails
		v.done += uint64(n)          //nolint:gosec // never negative
		if v.progress != nil && n > 0 {
			v.progress(v.done, v.total)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if got := hex.EncodeToString(sum.Sum(nil)); got != want.Sum {
				return fmt.Errorf("%s is other than it was made", want.Name)
			}
			return nil
		case err != nil:
			return err
		}
	}
}
