package e2e

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/client"
)

const (
	cbtDisk  = 16 << 20 // bytes of each disk
	cbtBlock = 64 << 10 // what QEMU's bitmaps count in
)

// A backup plays a backup product: over REST to an api process, and with libnbd's
// programs to what is exported. One worker, on host "one", reaches the machine, a real
// QEMU with two disks; another, on host "two", reaches a volume that is none of it.
type backup struct {
	*house
	*sdk
	machine *cbttest.Machine
	vm      string
	volumes []string
	lonely  [2]string // uuid and path of the volume at host "two"
	worker  *victim
	address string // of the api process

	task   string
	bitmap string   // of the last good backup; "" before
	copies [][]byte // of the disks, as of then
	random *rand.Rand
}

func newBackup(t *testing.T, onBroken string) *backup {
	t.Helper()
	cbttest.Need(t, "nbdinfo", "nbdcopy")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	b := &backup{
		house: newHouse(t), machine: cbttest.Start(t, cbttest.Shape{Disks: 2, Size: cbtDisk}),
		vm: id.New(), volumes: []string{id.New(), id.New()}, random: rand.New(rand.NewPCG(seed, 1)),
	}
	root := b.machine.Roots[0]
	m := config.CBTMachine{UUID: b.vm, Name: "vm", QMP: b.machine.Target.QMP}
	for i, disk := range b.machine.Target.Disks {
		m.Disks = append(m.Disks, config.CBTVolume{Volume: b.volumes[i], Path: disk.Path, Format: disk.Format})
	}
	b.lonely = [2]string{id.New(), filepath.Join(root, "lonely")}
	if err := os.WriteFile(b.lonely[1], make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	port := testenv.Port(t)
	b.address = "127.0.0.1:" + strconv.Itoa(port)
	b.child(orders{Role: "api-process", Listen: b.address})
	b.child(orders{Role: "worker-process", Host: "two", CBT: config.CBT{
		Roots: []string{root}, Dir: filepath.Join(root, "two"), Volumes: []config.CBTVolume{{Volume: b.lonely[0], Path: b.lonely[1], Format: "raw"}},
	}})
	b.worker = b.process(orders{Role: "worker-process", Host: "one", CBT: config.CBT{
		Roots: []string{root}, Dir: filepath.Join(root, "one"), Backups: filepath.Join(root, "backups"), Machines: []config.CBTMachine{m},
	}})
	b.awaitWorkers(2)
	b.sdk = newSDK(t, true, "http://"+b.address+"/zstack/v1")
	b.login("admin", adminPassword)
	if onBroken == "" {
		b.task = b.uuid(b.must(b.create("/cbt-task/create", map[string]any{"name": "nightly", "vmInstanceUuid": b.vm})))
		return b
	}
	task, err := b.native().CreateCBTTask(b.ctx, client.NewCBTTask{CBTFields: client.CBTFields{Name: "nightly"}, Machines: []string{b.vm}, OnBroken: onBroken})
	if err != nil {
		t.Fatal(err)
	}
	b.task = task.UUID
	return b
}

// native is a client of the native API, which has choices that ZStack's lacks.
func (b *backup) native() *client.Client {
	b.house.t.Helper()
	c, err := client.New("http://"+b.address, client.Options{})
	if err != nil {
		b.house.t.Fatal(err)
	}
	if err := c.SignIn(b.ctx, "admin", adminPassword); err != nil {
		b.house.t.Fatal(err)
	}
	return c
}

// A cbtInfo is what EnableCbtTask tells of a volume.
type cbtInfo struct {
	Volume struct {
		UUID string `json:"volumeUuid"`
	}
	Mode, BitmapName, BitmapBase64, Metadata string
	metadata                                 struct {
		URI, Context, ChainBroken string
		ChangedBytes              uint64
	}
}

// enable begins a backup window, and gives what is told of each volume.
func (b *backup) enable(since string) ([]cbtInfo, error) {
	b.house.t.Helper()
	r, err := b.create("/cbt-task/enable/"+b.task, map[string]any{"bitmapName": since})
	if err != nil {
		return nil, err
	}
	infos := readInfos(b.house.t, r["volumeCbtBackupInfos"])
	if len(infos) == 0 {
		b.house.t.Fatalf("enable told of no volumes: %v", r)
	}
	return infos, nil
}

func readInfos(t testing.TB, list any) (infos []cbtInfo) {
	t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &infos); err != nil {
		t.Fatalf("read what was told of volumes: %v\n%s", err, text)
	}
	for i := range infos {
		if err := json.Unmarshal([]byte(infos[i].Metadata), &infos[i].metadata); err != nil {
			t.Fatal(err)
		}
	}
	return infos
}

func (b *backup) disable(force bool) error {
	r, err := b.create("/cbt-task/disable/"+b.task, map[string]any{"force": force})
	if err != nil {
		return err
	}
	if inventory, _ := r["inventory"].(map[string]any); inventory["status"] != "Stopped" {
		return fmt.Errorf("after disable: %v", r)
	}
	return nil
}

func (b *backup) wantStatus(want string) {
	b.house.t.Helper()
	rows := b.list("/cbt-task", "uuid="+b.task, "status="+want, "resourceRefs.resourceUuid="+b.vm)
	if len(rows) != 1 {
		b.house.t.Errorf("%d tasks are %s, want 1: %v", len(rows), want, b.list("/cbt-task/"+b.task))
	}
}

// run runs a program that is not ours.
func (b *backup) run(name string, arguments ...string) ([]byte, error) {
	out, err := exec.CommandContext(b.ctx, name, arguments...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(arguments, " "), err)
	}
	return out, nil
}

// dirty asks nbdinfo for the blocks that an export marks as changed. After a rescan it
// marks none, and the bitmap tells.
func (b *backup) dirty(info cbtInfo) (blocks []uint64, err error) {
	if info.metadata.Context == "" {
		return unpacked(b.house.t, info.BitmapBase64), nil
	}
	out, err := b.run("nbdinfo", "--json", "--map="+info.metadata.Context, info.metadata.URI)
	if err != nil {
		return nil, err
	}
	var extents []struct {
		Offset, Length uint64
		Type           uint32
	}
	if err := json.Unmarshal(out, &extents); err != nil {
		return nil, err
	}
	for _, e := range extents {
		for at := e.Offset; e.Type&1 != 0 && at < e.Offset+e.Length; at += cbtBlock {
			blocks = append(blocks, at/cbtBlock)
		}
	}
	return blocks, nil
}

// read is an export as nbdcopy reads it.
func (b *backup) read(info cbtInfo) ([]byte, error) {
	path := filepath.Join(cbttest.Dir(b.house.t), "copy")
	if _, err := b.run("nbdcopy", info.metadata.URI, path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// follow brings the copies up to a window's moment: all of it, or of an incremental one
// what is marked and nothing else.
func (b *backup) follow(infos []cbtInfo) error {
	next := make([][]byte, len(infos))
	for i, info := range infos {
		whole, err := b.read(info)
		if err != nil {
			return err
		}
		next[i] = whole
		if info.Mode == "full" {
			continue
		}
		blocks, err := b.dirty(info)
		if err != nil {
			return err
		}
		next[i] = slices.Clone(b.copies[i])
		for _, k := range blocks {
			copy(next[i][k*cbtBlock:(k+1)*cbtBlock], whole[k*cbtBlock:])
		}
	}
	b.copies, b.bitmap = next, infos[0].BitmapName
	return nil
}

// images are what the disks read as now.
func (b *backup) images() [][]byte { return [][]byte{b.machine.Image(0), b.machine.Image(1)} }

func (b *backup) wantCopies(what string, images [][]byte) {
	b.house.t.Helper()
	for i := range images {
		for k := 0; k < cbtDisk/cbtBlock; k++ {
			if !bytes.Equal(images[i][k*cbtBlock:(k+1)*cbtBlock], b.copies[i][k*cbtBlock:(k+1)*cbtBlock]) {
				b.house.t.Fatalf("%s: block %d of disk %d was lost", what, k, i)
			}
		}
	}
}

// scribble writes to both disks and gives the blocks of each.
func (b *backup) scribble(n int) [][]uint64 {
	b.house.t.Helper()
	written := make([][]uint64, 2)
	for d := range written {
		for range n {
			length := 512 * (1 + b.random.Uint64N(200))
			offset := 512 * b.random.Uint64N((cbtDisk-length)/512)
			b.machine.Write(d, offset, length, byte(1+b.random.IntN(255)))
			for k := offset / cbtBlock; k <= (offset+length-1)/cbtBlock; k++ {
				written[d] = append(written[d], k)
			}
		}
		slices.Sort(written[d])
		written[d] = slices.Compact(written[d])
	}
	return written
}

// unpacked are the blocks of a bitmapBase64.
func unpacked(t testing.TB, text string) (blocks []uint64) {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var object map[uint64]uint64
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	for start, length := range object {
		for at := start; at < start+length; at += cbtBlock {
			blocks = append(blocks, at/cbtBlock)
		}
	}
	slices.Sort(blocks)
	return blocks
}
