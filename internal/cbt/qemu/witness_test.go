package qemu

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// witnessed asks nbdinfo for the extents of a context that bit 0 marks.
func witnessed(t *testing.T, uri, context string) (found []cbt.Extent) {
	t.Helper()
	var all []struct {
		Offset, Length uint64
		Type           uint32
	}
	out := cbttest.Command(t, "nbdinfo", "--json", "--map="+context, uri)
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("decode what nbdinfo says: %v", err)
	}
	for _, e := range all {
		if e.Type&nbd.Dirty != 0 {
			found = append(found, cbt.Extent{Offset: e.Offset, Length: e.Length})
		}
	}
	return found
}

// copied is an export as nbdcopy reads it.
func copied(t *testing.T, uri string) []byte {
	t.Helper()
	path := filepath.Join(cbttest.Dir(t), "copy")
	cbttest.Command(t, "nbdcopy", uri, path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// openScattered makes a session over a disk with writes before and since checkpoint 1,
// and more after the moment. It returns the disk at the moment.
func openScattered(t *testing.T, b *bench, target cbt.Target) (cbt.Target, cbt.Export, []byte) {
	t.Helper()
	for i := range uint64(20) {
		b.Write(0, i*21*block, 3*block/2, byte(i+1))
	}
	target = mark(t, b.driver, target, 1)
	for i := range uint64(30) {
		b.Write(0, i*13*block+block/2, block, byte(i+100))
	}
	image := b.Image(0)
	p, exports, err := b.driver.Open(t.Context(), target, cbt.Session{Seq: 2, From: 1, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	target.Chain = append(target.Chain, p)
	for i := range uint64(30) {
		b.Write(0, i*7*block, block, byte(i+200))
	}
	return target, exports[0], image
}

func TestOthersReadTheSame(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "nbdinfo", "nbdcopy")
	b := newBench(t, cbttest.Shape{})
	target, e, image := openScattered(t, b, b.Target())
	want := walk(t, b.driver, target, cbt.Span{From: 1, To: 2}, cbt.Cursor{})[0]
	if diff := cmp.Diff(want, witnessed(t, e.URI(), e.Context)); diff != "" || len(want) != 30 {
		t.Errorf("%d changed extents (-Changes +nbdinfo):\n%s", len(want), diff)
	}
	if !bytes.Equal(copied(t, e.URI()), image) {
		t.Error("nbdcopy does not read the moment")
	}
	out := filepath.Join(cbttest.Dir(t), "copy")
	cbttest.Command(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", e.URI(), out)
	if data, err := os.ReadFile(out); err != nil || !bytes.Equal(data, image) {
		t.Errorf("qemu-img does not read the moment (error %v)", err)
	}
}

// An older copy that gets the changed extents of the session is the disk at its moment.
func TestAnIncrementMakesTheCopyWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	for i := range uint64(20) {
		b.Write(0, i*21*block, block, byte(i+1))
	}
	target := mark(t, b.driver, b.Target(), 1)
	replica := b.Image(0)
	target.Chain = nil
	if err := b.driver.Drop(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	target, e, image := openScattered(t, b, target)
	for i := range uint64(20) { // what openScattered wrote ahead of its checkpoint
		copy(replica[i*21*block:], image[i*21*block:][:3*block/2])
	}
	client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, x := range walk(t, b.driver, target, cbt.Span{From: 1, To: 2}, cbt.Cursor{})[0] {
		if err := client.Read(t.Context(), replica[x.Offset:x.End()], x.Offset); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(replica, image) {
		t.Error("copy and increment are not the disk at the moment")
	}
}

// What QEMU stored is read by QEMU's own tools as we read it.
func TestStoredBitmapsAsQEMUReadsThem(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "nbdinfo", "qemu-nbd")
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	for i := range uint64(40) {
		b.Write(0, i*11*block, 2*block, byte(i+1))
	}
	b.Quit()
	socket := filepath.Join(cbttest.Dir(t), "nbd")
	cbttest.Spawn(t, "qemu-nbd", "-r", "-t", "-f", "qcow2", "-k", socket, "-B", "cbt-0123456789ab-1", target.Disks[0].Path)
	cbttest.Await(t, "unix", socket)
	theirs := witnessed(t, "nbd+unix:///?socket="+socket, contextPrefix+"cbt-0123456789ab-1")
	ours := walk(t, b.driver, target, cbt.Span{From: 1}, cbt.Cursor{})[0]
	if diff := cmp.Diff(theirs, ours); diff != "" || len(ours) != 40 {
		t.Errorf("%d changed extents (-qemu-nbd +ours):\n%s", len(ours), diff)
	}
}

func TestSessionOverTLS(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "nbdcopy", "nbdinfo")
	b := newBench(t, cbttest.Shape{})
	target := b.Target()
	target.Listen = cbt.Listen{Host: "127.0.0.1", Port: cbttest.Port(t), Certs: cbttest.Certs(t)}
	b.driver.Roots = append(b.driver.Roots, target.Listen.Certs)
	target, e, image := openScattered(t, b, target)
	if e.Network != "tcp" {
		t.Fatalf("got export %+v, want one over TCP", e)
	}
	if _, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{}); err == nil {
		t.Error("a client without TLS is let in")
	}
	strangers, err := nbd.ClientTLS(cbttest.Certs(t), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	strangers.InsecureSkipVerify = true // the server has to refuse, not the client
	if _, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{TLS: strangers}); err == nil {
		t.Error("a client of another authority is let in")
	}
	if made, err := os.ReadFile(filepath.Join(target.Dir, "tls", groupFile)); err != nil || !bytes.Equal(made, group) {
		t.Errorf("QEMU has to make a group of its own (error %v)", err)
	}
	uri := e.URI() + "?tls-certificates=" + target.Listen.Certs
	if !bytes.Equal(copied(t, uri), image) {
		t.Error("nbdcopy does not read the moment over TLS")
	}
	want := walk(t, b.driver, target, cbt.Span{From: 1, To: 2}, cbt.Cursor{})[0]
	if diff := cmp.Diff(want, witnessed(t, uri, e.Context)); diff != "" {
		t.Errorf("changed extents (-Changes +nbdinfo):\n%s", diff)
	}
}
