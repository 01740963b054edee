package process

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
)

func TestTrackedMachinesAndVolumes(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	if h, err := tracked(config.CBT{}, log); h != nil || err != nil {
		t.Errorf("without machines got %v, %v; want nothing", h, err)
	}
	root := t.TempDir()
	disk := func(volume string) config.CBTVolume {
		return config.CBTVolume{Volume: volume, Path: filepath.Join(root, volume), Format: "raw"}
	}
	c := config.CBT{
		Roots: []string{root}, Dir: filepath.Join(root, "takt"),
		Machines: []config.CBTMachine{{UUID: "4D1C2B0E-7c2a-4b57-9a62-0d3d7a1b9f01", Disks: []config.CBTVolume{disk("a")}}},
		Volumes:  []config.CBTVolume{disk("b")},
	}
	h, err := tracked(c, log)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"4d1c2b0e7c2a4b579a620d3d7a1b9f01", "a", "b", "z"}
	if diff := cmp.Diff(want, withResources([]string{"z", "a"}, h)); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	c.Volumes[0].Path = "/etc/shadow"
	if _, err := tracked(c, log); err == nil || !strings.Contains(err.Error(), "worker.cbt: machine b") {
		t.Errorf("got error %v, want one that names the volume", err)
	}
}

func TestEachMachineHasItsPort(t *testing.T) {
	t.Parallel()
	l := config.CBTListen{Host: "10.0.0.1", PortFrom: 10900, Certs: "/tls"}
	for _, c := range []struct {
		name       string
		listen     config.CBTListen
		own, index int
		want       cbt.Listen
	}{
		{"unix sockets", config.CBTListen{PortFrom: 10900}, 7, 1, cbt.Listen{}},
		{"by place", l, 0, 2, cbt.Listen{Host: "10.0.0.1", Port: 10902, Certs: "/tls"}},
		{"its own", l, 7, 2, cbt.Listen{Host: "10.0.0.1", Port: 7, Certs: "/tls"}},
	} {
		if got := listenOf(c.listen, c.own, c.index); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// tasks are those that an engine lists.
type tasks struct {
	uuids []string
	err   error
}

func (l tasks) CBTTasks(ctx context.Context) ([]core.CBTTask, error) {
	if c, err := core.CallerFrom(ctx); err != nil || !c.Sees("anybody") {
		return nil, errors.New("the sweeper does not see all tasks")
	}
	var out []core.CBTTask
	for _, uuid := range l.uuids {
		out = append(out, core.CBTTask{Meta: core.Meta{UUID: uuid}})
	}
	return out, l.err
}

// What the sweeper takes for dead it removes, so a doubt is a yes.
func TestTasksThatExist(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	all := tasks{uuids: []string{"4d1c2b0e7c2a4b579a620d3d7a1b9f01"}}
	for _, c := range []struct {
		name string
		eng  tasks
		task string
		want bool
	}{
		{"it exists", all, "4d1c2b0e7c2a", true},
		{"it does not", all, "5d1c2b0e7c2a", false},
		{"nobody can tell", tasks{err: errors.New("away")}, "5d1c2b0e7c2a", true},
	} {
		if got := exists(t.Context(), c.eng, c.task, log); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// What a missing task has left goes only when it stays missing.
func TestSweeperWaits(t *testing.T) {
	t.Parallel()
	g := grace{log: slog.New(slog.DiscardHandler), missing: map[string]time.Time{}}
	start := time.Now()
	for _, c := range []struct {
		name   string
		after  time.Duration
		exists bool
		want   bool
	}{
		{"missing for the first time", 0, false, true},
		{"still", 20 * time.Minute, false, true},
		{"back", 25 * time.Minute, true, true},
		{"missing again", 40 * time.Minute, false, true},
		{"not for long", 60 * time.Minute, false, true},
		{"for long", 71 * time.Minute, false, false},
	} {
		if got := g.spares("5d1c2b0e7c2a", c.exists, start.Add(c.after)); got != c.want {
			t.Errorf("%s: spared is %v, want %v", c.name, got, c.want)
		}
	}
}

// A worker that starts watches the room of its guests from the first moment, whatever the
// sessions that it has to serve again wait for.
func TestRoomIsWatchedFromTheStart(t *testing.T) {
	t.Parallel()
	root, dir := t.TempDir(), cbttest.SmallDisk(t, 4<<20)
	const uuid, volume, task = "4d1c2b0e7c2a4b579a620d3d7a1b9f01", "4d1c2b0e7c2a4b579a620d3d7a1b9f02", "4d1c2b0e7c2a4b579a620d3d7a1b9f03"
	disk := filepath.Join(root, "disk")
	own := filepath.Join(dir, uuid)
	scratch := filepath.Join(own, cbt.CheckpointName(task, 1)+"s0.scratch")
	resuming, err := cbt.Lock(t.Context(), cbt.Target{Dir: filepath.Join(own, "order")}, 0) // an order has the machine
	if err != nil {
		t.Fatal(err)
	}
	for file, size := range map[string]int{disk: 0, filepath.Join(own, "order", "open"): 1, scratch: 1 << 20, filepath.Join(dir, "other"): 3<<20 - 128<<10} {
		if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := &tale{heard: make(chan string, 10)}
	h, err := tracked(config.CBT{Roots: []string{root}, Dir: dir, Machines: []config.CBTMachine{{
		UUID: uuid, QMP: filepath.Join(root, "qmp"), Disks: []config.CBTVolume{{Volume: volume, Path: disk, Format: "qcow2"}},
	}}}, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	stop := tend(t.Context(), h, tasks{uuids: []string{task}}, slog.New(log))
	defer stop()
	defer resuming()
	if first := <-log.heard; first != "session ended for its guest to go on writing" {
		t.Errorf("the worker first says %q, want that a session was ended for its guest", first)
	}
	if _, err := os.Stat(scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch image: %v, want it gone", err)
	}
}

// tale is a log that is heard.
type tale struct {
	slog.Handler
	heard chan string
}

func (*tale) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (l *tale) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.heard <- r.Message:
	default:
	}
	return nil
}
