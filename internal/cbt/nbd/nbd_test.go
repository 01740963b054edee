package nbd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

const dirty = "qemu:dirty-bitmap:x"

// disk is an export of random bytes with extents of two contexts.
type disk struct {
	data    []byte
	extents []nbd.Extent // of dirty
}

func newDisk(size int) *disk {
	random := rand.New(rand.NewPCG(1, 2))
	d := &disk{data: make([]byte, size)}
	for i := range d.data {
		d.data[i] = byte(random.Uint32())
	}
	for at := uint64(0); at < uint64(size); {
		length := min(512*(1+random.Uint64N(20)), uint64(size)-at)
		d.extents = append(d.extents, nbd.Extent{Offset: at, Length: length, Flags: uint32(len(d.extents) & 1)})
		at += length
	}
	return d
}

func (d *disk) served() nbd.Served {
	walk := func(flags uint32) func(uint64, uint64, func(nbd.Extent) error) error {
		return func(_, _ uint64, each func(nbd.Extent) error) error {
			for _, e := range d.extents {
				if e.Flags != flags {
					continue // the default of the context fills in
				}
				if err := each(e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return nbd.Served{Size: uint64(len(d.data)), Data: bytes.NewReader(d.data), Contexts: map[string]nbd.Context{
		dirty:          {Walk: walk(nbd.Dirty)},
		nbd.Allocation: {Walk: func(_, _ uint64, _ func(nbd.Extent) error) error { return nil }},
	}}
}

func serve(t testing.TB, d *disk) (server *nbd.Server, socket string) {
	t.Helper()
	socket = filepath.Join(cbttest.Dir(t), "nbd")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server = nbd.Serve(listener, nil)
	t.Cleanup(func() { _ = server.Close() })
	server.Add("disk", d.served())
	return server, socket
}

func dial(t testing.TB, socket, export string, contexts ...string) *nbd.Client {
	t.Helper()
	client, err := nbd.Dial(t.Context(), "unix", socket, export, nbd.Options{Contexts: contexts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func status(t testing.TB, c *nbd.Client, context string, offset, length uint64) (out []nbd.Extent) {
	t.Helper()
	err := c.Status(t.Context(), context, offset, length, func(e nbd.Extent) error {
		out = append(out, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadAndStatus(t *testing.T) {
	t.Parallel()
	d := newDisk(3<<20 + 17)
	_, socket := serve(t, d)
	for name, contexts := range map[string][]string{"simple replies": nil, "structured replies": {nbd.Allocation, dirty}} {
		client := dial(t, socket, "disk", contexts...)
		if client.Size != uint64(len(d.data)) || client.Flags&nbd.FlagReadOnly == 0 {
			t.Errorf("%s: got size %d, flags %#x", name, client.Size, client.Flags)
		}
		for _, at := range [][2]int{{0, len(d.data)}, {1, 1}, {len(d.data) - 1, 1}, {4095, 70000}, {len(d.data), 0}} {
			got := make([]byte, at[1])
			if err := client.Read(t.Context(), got, uint64(at[0])); err != nil || !bytes.Equal(got, d.data[at[0]:at[0]+at[1]]) {
				t.Errorf("%s: read %v: error %v, or other data", name, at, err)
			}
		}
		if err := client.Read(t.Context(), make([]byte, 2), client.Size-1); err == nil {
			t.Errorf("%s: reads behind the end", name)
		}
	}
	client := dial(t, socket, "disk", nbd.Allocation, dirty)
	if diff := cmp.Diff(d.extents, status(t, client, dirty, 0, client.Size)); diff != "" {
		t.Errorf("extents (-want +got):\n%s", diff)
	}
	whole := []nbd.Extent{{Offset: 100, Length: client.Size - 100}}
	if diff := cmp.Diff(whole, status(t, client, nbd.Allocation, 100, client.Size-100)); diff != "" {
		t.Errorf("the other context (-want +got):\n%s", diff)
	}
	enough := errors.New("enough")
	if err := client.Status(t.Context(), dirty, 0, client.Size, func(nbd.Extent) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got error %v, want that of the function", err)
	}
	if err := client.Status(t.Context(), "other", 0, 1, nil); err == nil {
		t.Error("a context that was not agreed on is answered")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	server, socket := serve(t, newDisk(1<<20))
	refused := (*nbd.OptionError)(nil)
	if _, err := nbd.Dial(t.Context(), "unix", socket, "other", nbd.Options{}); !errors.As(err, &refused) {
		t.Errorf("an unknown export: got error %v", err)
	}
	if _, err := nbd.Dial(t.Context(), "unix", socket, "disk", nbd.Options{Contexts: []string{"other:x"}}); err == nil {
		t.Error("an unknown context is agreed on")
	}
	config, err := nbd.ClientTLS(cbttest.Certs(t), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nbd.Dial(t.Context(), "unix", socket, "disk", nbd.Options{TLS: config}); !errors.As(err, &refused) {
		t.Errorf("TLS where there is none: got error %v", err)
	}
	client := dial(t, socket, "disk")
	io := (*nbd.IOError)(nil)
	if err := client.Write(t.Context(), make([]byte, 5000), 0); !errors.As(err, &io) {
		t.Errorf("a write to what is read-only: got error %v", err)
	}
	if err := client.WriteZeroes(t.Context(), 0, 512); !errors.As(err, &io) {
		t.Errorf("zeros to what is read-only: got error %v", err)
	}
	if err := client.Read(t.Context(), make([]byte, 512), 512); err != nil {
		t.Errorf("a read after refusals: %v", err)
	}
	if err := server.Remove(false, "disk"); !errors.Is(err, nbd.ErrInUse) {
		t.Errorf("got error %v, want ErrInUse", err)
	}
	if err := server.Remove(true, "disk", "other"); err != nil {
		t.Error(err)
	}
	if err := client.Read(t.Context(), make([]byte, 512), 0); err == nil {
		t.Error("a reader goes on after its export was removed by force")
	}
}

func TestAReadThatIsCanceled(t *testing.T) {
	t.Parallel()
	d := newDisk(1 << 20)
	hung, entered := make(chan struct{}), make(chan struct{})
	served := d.served()
	served.Data = readerFunc(func([]byte, int64) (int, error) {
		close(entered)
		<-hung
		return 0, io.EOF
	})
	server, socket := serve(t, d)
	server.Add("hung", served)
	client := dial(t, socket, "hung")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if err := client.Read(ctx, make([]byte, 512), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	close(hung)
}

type readerFunc func([]byte, int64) (int, error)

func (f readerFunc) ReadAt(p []byte, offset int64) (int, error) { return f(p, offset) }

func TestAReadThatFails(t *testing.T) {
	t.Parallel()
	d := newDisk(1 << 20)
	served := d.served()
	served.Data = readerFunc(func([]byte, int64) (int, error) { return 0, errors.New("a bad sector") })
	server, socket := serve(t, d)
	server.Add("bad", served)
	for _, contexts := range [][]string{nil, {dirty}} {
		client := dial(t, socket, "bad", contexts...)
		io := (*nbd.IOError)(nil)
		if err := client.Read(t.Context(), make([]byte, 512), 0); !errors.As(err, &io) || io.Number != 5 {
			t.Errorf("got error %v, want number 5", err)
		}
	}
}

// Tools that are not ours, against our server.
func TestOthersReadOurServer(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "nbdinfo", "nbdcopy", "qemu-img")
	d := newDisk(2 << 20)
	_, socket := serve(t, d)
	uri := "nbd+unix:///disk?socket=" + socket
	for _, copier := range [][]string{{"nbdcopy", uri}, {"qemu-img", "convert", "-f", "raw", "-O", "raw", uri}} {
		out := filepath.Join(cbttest.Dir(t), "copy")
		cbttest.Command(t, copier[0], append(copier[1:], out)...)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, d.data) {
			t.Errorf("%s reads other data (error %v)", copier[0], err)
		}
	}
	var theirs []struct {
		Offset, Length uint64
		Type           uint32
	}
	if err := json.Unmarshal([]byte(cbttest.Command(t, "nbdinfo", "--json", "--map="+dirty, uri)), &theirs); err != nil {
		t.Fatal(err)
	}
	var got []nbd.Extent
	for _, e := range theirs {
		got = append(got, nbd.Extent{Offset: e.Offset, Length: e.Length, Flags: e.Type})
	}
	if diff := cmp.Diff(d.extents, got); diff != "" {
		t.Errorf("nbdinfo (-want +got):\n%s", diff)
	}
}

// Our client, against servers that are not ours.
func TestWeReadOtherServers(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "qemu-nbd", "qemu-img")
	dir := cbttest.Dir(t)
	path, socket := filepath.Join(dir, "image"), filepath.Join(dir, "nbd")
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "6G") // beyond 32 bits
	cbttest.Spawn(t, "qemu-nbd", "-t", "-f", "qcow2", "-x", "disk", "-k", socket, path)
	cbttest.Await(t, "unix", socket)
	client := dial(t, socket, "disk", nbd.Allocation)
	want := bytes.Repeat([]byte{9}, 1<<20)
	if err := client.Write(t.Context(), want, 5<<30); err != nil {
		t.Fatal(err)
	}
	if err := client.WriteZeroes(t.Context(), 5<<30+1<<19, 1<<16); err != nil {
		t.Fatal(err)
	}
	clear(want[1<<19 : 1<<19+1<<16])
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := client.Read(t.Context(), got, 5<<30); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read other data than was written (error %v)", err)
	}
	var data uint64
	for _, e := range status(t, client, nbd.Allocation, 0, client.Size) {
		if e.Flags&nbd.AllocationZero == 0 {
			data += e.Length
		}
	}
	if data != 1<<20-1<<16 {
		t.Errorf("%d bytes are allocated, want %d", data, 1<<20-1<<16)
	}
}

func TestDialOfASilentServer(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(cbttest.Dir(t), "nbd")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := nbd.Dial(ctx, "unix", socket, "disk", nbd.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want that of the context", err)
	}
}
