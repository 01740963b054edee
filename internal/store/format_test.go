package store_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// A process notes its format where a lower one or none stands, and refuses a higher one,
// which stays.
func TestAdoptFormat(t *testing.T) {
	t.Parallel()
	const newer = store.Format + 1
	rows := []struct {
		name   string
		stands string // "" = nothing
		want   int    // afterwards
		says   string // the refusal; "" = none
	}{
		{"an empty Redis", "", store.Format, ""},
		{"the format before", strconv.Itoa(store.Format - 1), store.Format, ""},
		{"the same", strconv.Itoa(store.Format), store.Format, ""},
		{"a newer Takt's", strconv.Itoa(newer), newer, "written by a newer Takt (format 2, this one knows 1): install that version, or restore a copy made before the upgrade"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			rdb := testenv.Redis(t).Client(t)
			s := store.New(rdb, store.Options{})
			if row.stands != "" {
				if err := rdb.Set(t.Context(), "takt:{w}:format", row.stands, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			err := s.AdoptFormat(t.Context())
			if row.says == "" && err != nil || row.says != "" && (!core.Is(err, core.Conflict) || !strings.Contains(err.Error(), row.says)) {
				t.Errorf("AdoptFormat = %v, want %q", err, row.says)
			}
			if got, err := s.Format(t.Context()); err != nil || got != row.want {
				t.Errorf("Format afterwards = %d, %v; want %d", got, err, row.want)
			}
		})
	}
}

func TestFormatReadsOnly(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	rdb := server.Client(t)
	s := store.New(rdb, store.Options{})
	if got, err := s.Format(t.Context()); err != nil || got != 0 || rdb.DBSize(t.Context()).Val() != 0 {
		t.Errorf("Format of an empty Redis = %d, %v with %d keys; want 0 and none", got, err, rdb.DBSize(t.Context()).Val())
	}
	server.Stop()
	if err := s.AdoptFormat(t.Context()); !core.Is(err, core.Unavailable) {
		t.Errorf("AdoptFormat without Redis = %v, want unavailable: a start waits then", err)
	}
}
