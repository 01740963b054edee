// Package backup keeps copies of a machine's disks in files, restores and checks them.
//
// A backup is a directory with an image a disk. An incremental one holds what changed
// since its base, and its images have the base's behind them, by a relative name, so
// that qemu-img reads any of them without us:
//
//	<backups>/<machine>/cbt-<task>-1/<volume>.qcow2     full
//	                                 backup.json
//	                    cbt-<task>-2/<volume>.qcow2     ─▶ ../cbt-<task>-1/<volume>.qcow2
//	                                 backup.json
//	                    cbt-<task>-3.partial/ …         is being made
//	                    cbt-<task>-1.gone/ …            is being deleted
//
// A backup is made under a name with a suffix. When its files are on the disk, the
// directory gets its final name: what has that is done, and nothing else is. A backup
// that is deleted loses the name first.
//
// Files are written from their beginning to their end, tables first, and summed on the
// way: one reading, with holes read as zeros, finds the sum again. Which backups there
// are is the caller's to record, and that no two work on one machine at a time. How a
// moment is made that can be read is the drivers'.
package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/takt-dev/takt/internal/cbt"
)

// ErrDamaged says that files of a backup are missing or other than they were made.
var ErrDamaged = errors.New("the backup is damaged")

// Names in the directory of a machine, and of a backup.
const (
	partialSuffix = ".partial"
	goneSuffix    = ".gone"
	imageSuffix   = ".qcow2"
	sheetName     = "backup.json"
)

// A Set is the backups of one task at one machine.
type Set struct {
	root, machine, task string
}

// Of gives the backups below a directory.
func Of(root, machine, task string) Set { return Set{root, machine, task} }

// A Sheet lies with each backup: for people, and for a worker that finds the backup done
// and has to say what it did not get to say.
type Sheet struct {
	Task    string     `json:"task"`
	Machine string     `json:"machine"`
	Token   string     `json:"token"` // of the session that was copied: it tells one order from another
	Backup  cbt.Backup `json:"backup"`
	// Record of the machine behind the backup, without backups.
	Record cbt.Record `json:"record"`
}

func (s Set) dir() string { return filepath.Join(s.root, s.machine) }

// Dir is where a backup lies when it is done.
func (s Set) Dir(seq int) string { return filepath.Join(s.dir(), cbt.CheckpointName(s.task, seq)) }

func (s Set) partial(seq int) string { return s.Dir(seq) + partialSuffix }

// Read gives the sheet of a backup that is done; fs.ErrNotExist: it is not.
func (s Set) Read(seq int) (sheet Sheet, err error) {
	text, err := os.ReadFile(filepath.Join(s.Dir(seq), sheetName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, there := os.Stat(s.Dir(seq)); there == nil {
			return sheet, fmt.Errorf("%s of %s is missing", sheetName, s.name(seq))
		}
	}
	if err != nil {
		return sheet, fmt.Errorf("read backup: %w", err)
	}
	if err := json.Unmarshal(text, &sheet); err != nil {
		return sheet, fmt.Errorf("%s of %s cannot be read: %w", sheetName, s.name(seq), err)
	}
	if sheet.Backup.Seq != seq {
		return sheet, fmt.Errorf("%s of %s is of another backup", sheetName, s.name(seq))
	}
	return sheet, nil
}

func (s Set) name(seq int) string { return cbt.CheckpointName(s.task, seq) }

// Has says whether a backup is done, and has the files that are recorded of it.
func (s Set) Has(b cbt.Backup) bool {
	for _, f := range b.Files {
		if info, err := os.Stat(filepath.Join(s.Dir(b.Seq), f.Name)); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	_, err := s.Read(b.Seq)
	return err == nil
}

// Seal makes what Write wrote a backup: from here on it is done.
func (s Set) Seal(sheet Sheet) error {
	sheet.Task, sheet.Machine = s.task, s.machine
	sheet.Record.Backups = nil
	text, err := json.MarshalIndent(sheet, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", sheetName, err)
	}
	partial := s.partial(sheet.Backup.Seq)
	if err := writeWhole(filepath.Join(partial, sheetName), append(text, '\n')); err != nil {
		return err
	}
	if err := syncDir(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, s.Dir(sheet.Backup.Seq)); err != nil {
		return fmt.Errorf("name backup: %w", full(err))
	}
	return syncDir(s.dir())
}

func writeWhole(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), full(err))
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), full(err))
	}
	return nil
}

// Discard deletes a backup; one that is gone is success. ErrInUse: a backup in all is
// based on it.
func (s Set) Discard(seq int, all []cbt.Backup) error {
	for _, b := range all {
		if b.Base == seq {
			return fmt.Errorf("%w: backup %s is based on %s", cbt.ErrInUse, s.name(b.Seq), s.name(seq))
		}
	}
	return s.remove(s.name(seq))
}

// remove takes a backup's name away first: what is left after a crash is no backup.
func (s Set) remove(name string) error {
	path := filepath.Join(s.dir(), name)
	gone := strings.TrimSuffix(strings.TrimSuffix(path, partialSuffix), goneSuffix) + goneSuffix
	if path != gone {
		if err := os.RemoveAll(gone); err != nil {
			return fmt.Errorf("delete backup: %w", err)
		}
		if err := os.Rename(path, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete backup: %w", err)
		}
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("delete backup: %w", err)
	}
	if err := syncDir(s.dir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Clear removes what was not finished: backups half made or half deleted.
func (s Set) Clear() error {
	return s.removeIf(unfinished)
}

// Drop removes all backups of the task at the machine.
func (s Set) Drop() error {
	return s.removeIf(func(string) bool { return true })
}

// removeIf removes what is the task's where wanted says so of what follows the name of
// the task.
func (s Set) removeIf(wanted func(rest string) bool) error {
	entries, err := os.ReadDir(s.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	its, err := cbt.TaskName(s.task)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if task, rest, ok := cbt.ParseName(e.Name()); ok && task == its && wanted(rest) {
			err = errors.Join(err, s.remove(e.Name()))
		}
	}
	return err
}

// Strays are the backups that are done and not in a record, rising: their worker died
// before it could answer, and nobody asked again.
func (s Set) Strays(recorded []cbt.Backup) (seqs []int) {
	entries, err := os.ReadDir(s.dir())
	if err != nil {
		return nil // there is no directory yet
	}
	its, err := cbt.TaskName(s.task)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		task, seq, ok := cbt.ParseCheckpoint(e.Name())
		if ok && task == its && !slices.ContainsFunc(recorded, func(b cbt.Backup) bool { return b.Seq == seq }) {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}

// Unfinished lists the names of tasks (see cbt.TaskName) that have something half made
// or half deleted at a machine.
func Unfinished(root, machine string) (tasks []string) {
	entries, err := os.ReadDir(filepath.Join(root, machine))
	if err != nil {
		return nil // there is no directory yet
	}
	for _, e := range entries {
		task, rest, ok := cbt.ParseName(e.Name())
		if ok && unfinished(rest) && !slices.Contains(tasks, task) {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

func unfinished(name string) bool {
	return strings.HasSuffix(name, partialSuffix) || strings.HasSuffix(name, goneSuffix)
}

// full names the want of space.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", cbt.ErrNoSpace, err)
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", full(err))
	}
	return nil
}
