package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
)

// A note in the machine's directory says which session is open, so that one which was
// closed meanwhile is not opened again by a look that was ordered before, and so that
// the next process serves again what this one serves itself. It is written and read
// under the machine's hold.

func (h *Host) notePath(m Machine) string { return filepath.Join(h.machineDir(m), "order", "open") }

// note notes the session of the record.
func (w *work) note() error {
	o := w.o
	o.Record = w.record
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode note: %w", err)
	}
	path := w.notePath(w.m)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("note the session: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note the session: %w", err)
	}
	return nil
}

func (w *work) unnote() error {
	if err := os.Remove(w.notePath(w.m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the note of the session: %w", err)
	}
	return nil
}

// noted says whether a session is the one that is open.
func (w *work) noted(s cbt.Session) bool {
	o, err := readNote(w.notePath(w.m))
	return err == nil && o.Task == w.o.Task && o.Record.Open.Seq == s.Seq && o.Record.Open.Token == s.Token
}

func readNote(path string) (o cbt.Order, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fmt.Errorf("read note: %w", err)
	}
	if o.Record.Open == nil {
		return o, errors.New("read note: it has no session")
	}
	return o, nil
}

// Resume serves again the sessions that a process before served itself.
func (h *Host) Resume(ctx context.Context) {
	for _, uuid := range slices.Sorted(maps.Keys(h.machines)) {
		if err := h.resume(ctx, h.machines[uuid]); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "session not served again", "machine", uuid, "err", err)
		}
	}
}

func (h *Host) resume(ctx context.Context, m Machine) error {
	if _, err := os.Stat(h.notePath(m)); err != nil {
		return nil //nolint:nilerr // no session is open
	}
	release, err := h.hold(ctx, m)
	if err != nil {
		return err
	}
	defer release()
	o, err := readNote(h.notePath(m))
	if err != nil || o.Record.Driver != cbt.DriverScan {
		return err
	}
	w := &work{Host: h, m: m, o: o, log: io.Discard, record: o.Record}
	_, _, err = h.scan.Open(ctx, w.target(), o.Record.Open.Session)
	return err
}
