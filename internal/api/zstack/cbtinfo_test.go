package zstack

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// What VolumeCbtBackupInfo tells of exports that a usual test does not meet.
func TestCBTInfos(t *testing.T) {
	const task, vm, vol = "b70f4160919c38748f908f489ba306ce", "89878e17496030ba9c062cbb18924335", "e91efa8b55625532a28b7fc7c0456e8d"
	const unix = "nbd+unix:///x?socket=%2Frun%2Fnbd.sock"
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	export := cbt.Export{Volume: vol, Size: 1 << 30, Network: "unix", Address: "/run/nbd.sock", Name: "x", Mode: cbt.ModeIncremental, Bitmap: "cbt-b70f4160919c-3", Context: "qemu:dirty-bitmap:v"}
	for _, row := range []struct {
		name    string
		change  func(*core.CBTTask, *cbt.Export)
		details []cbt.Details
		info    map[string]any // what differs
		meta    map[string]any
	}{
		{name: "the run that opened it is forgotten",
			meta: map[string]any{"changes": "/api/v1/cbt-tasks/" + task + "/changes?from=cbt-b70f4160919c-2&to=cbt-b70f4160919c-3&volume=" + vol}},
		{name: "a bitmap that is too long", details: []cbt.Details{{{Volume: vol, Changed: 4096}}},
			meta: map[string]any{"changedBytes": 4096., "changes": "/api/v1/cbt-tasks/" + task + "/changes?from=cbt-b70f4160919c-2&to=cbt-b70f4160919c-3&volume=" + vol}},
		{name: "nothing has changed", details: []cbt.Details{{{Volume: vol, Bitmap: "eA=="}}},
			info: map[string]any{"bitmapBase64": "eA=="}, meta: map[string]any{"changedBytes": 0.}},
		{name: "over TCP, with TLS", details: []cbt.Details{{{Volume: vol, Bitmap: "eA=="}}},
			change: func(_ *core.CBTTask, e *cbt.Export) { e.Network, e.Address = "tcp", "[fd00::7]:10809" },
			info:   map[string]any{"bitmapBase64": "eA==", "nbdServer": "fd00::7", "nbdPort": "10809"},
			meta:   map[string]any{"changedBytes": 0., "tls": true, "uri": "nbds://[fd00::7]:10809/x"}},
		{name: "full because the chain was lost",
			change: func(t *core.CBTTask, e *cbt.Export) {
				t.Records[0].Open.From, e.Mode, e.Context = 0, cbt.ModeFull, ""
				t.Records[0].Broken, t.Records[0].BrokenAt = "checkpoint 2 is absent", at
			},
			info: map[string]any{"mode": "full"},
			meta: map[string]any{"context": nil, "sinceBitmapName": nil, "chainBroken": "checkpoint 2 is absent", "changes": "/api/v1/cbt-tasks/" + task + "/changes?volume=" + vol}},
		{name: "full as asked for, after a chain was lost once",
			change: func(t *core.CBTTask, e *cbt.Export) {
				t.Since, t.Records[0].Open.From, e.Mode, e.Context = "", 0, cbt.ModeFull, ""
				t.Records[0].Broken = "checkpoint 2 is absent"
			},
			info: map[string]any{"mode": "full"},
			meta: map[string]any{"context": nil, "sinceBitmapName": nil, "changes": "/api/v1/cbt-tasks/" + task + "/changes?volume=" + vol}},
		{name: "written while it was read", details: []cbt.Details{{{Volume: vol, Bitmap: "eA=="}}},
			change: func(t *core.CBTTask, _ *cbt.Export) { t.Records[0].Open.Fuzzy = true },
			info:   map[string]any{"bitmapBase64": "eA=="}, meta: map[string]any{"changedBytes": 0., "fuzzy": true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := export
			given := core.CBTTask{
				Meta: core.Meta{UUID: task}, Machines: []string{vm, "other"}, Status: core.CBTRunning, Since: "cbt-b70f4160919c-2",
				Records: []cbt.Record{{
					Volumes: []cbt.Volume{{UUID: vol, Path: "/vm/a.raw", Format: "raw"}},
					Open:    &cbt.OpenSession{Session: cbt.Session{Seq: 3, From: 2}, At: at},
				}, {}},
			}
			if row.change != nil {
				row.change(&given, &e)
			}
			given.Records[0].Open.Exports = []cbt.Export{e}
			wantInfo := map[string]any{
				"volume": map[string]any{"volumeUuid": vol, "installPath": "/vm/a.raw", "deviceId": 0., "deviceType": "file", "format": "raw"},
				"mode":   "incremental", "bitmapName": "cbt-b70f4160919c-3", "bitmapBase64": nil, "target": nil, "scratchNodeName": nil,
				"nbdServer": "unix:/run/nbd.sock", "nbdPort": "0",
			}
			wantMeta := map[string]any{
				"vmInstanceUuid": vm, "uri": unix, "exportName": "x", "tls": false, "size": float64(1 << 30), "context": "qemu:dirty-bitmap:v", "sinceBitmapName": "cbt-b70f4160919c-2",
			}
			for k, v := range row.info {
				wantInfo[k] = v
			}
			for k, v := range row.meta {
				wantMeta[k] = v
			}
			infos := cbtInfos(given, row.details)
			if len(infos) != 1 {
				t.Fatalf("got %d infos, want 1", len(infos))
			}
			var got, meta map[string]any
			if err := json.Unmarshal(encode(infos[0]), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(got["metadata"].(string)), &meta); err != nil {
				t.Fatal(err)
			}
			delete(got, "metadata")
			if diff := cmp.Diff(wantInfo, got); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantMeta, meta); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// A volume that is tracked by itself, and machines whose checkpoints differ.
func TestCBTInventoryOfOddTasks(t *testing.T) {
	a := &API{opts: Options{Zone: time.UTC}}
	made := time.Date(2026, 11, 21, 20, 43, 14, 0, time.UTC)
	task := core.CBTTask{
		Meta: core.Meta{UUID: "b70f4160919c38748f908f489ba306ce", Created: made, Updated: made}, Machines: []string{"v", "m"}, Status: core.CBTStarting,
		Pending: core.CBTPending{Op: core.CBTEnable, At: made.Add(time.Minute)}, Last: core.CBTPending{Ended: made.Add(time.Second)},
		Records: []cbt.Record{{Volumes: []cbt.Volume{{UUID: "v"}}, Chain: cbt.Chain{{Seq: 1}, {Seq: 2}}}, {Chain: cbt.Chain{{Seq: 1}}}},
	}
	got := a.cbtTaskInventory(task)
	if got.ResourceRefs[0].ResourceType != "VolumeVO" || got.ResourceRefs[1].ResourceType != "VmInstanceVO" {
		t.Errorf("resourceRefs = %+v, want a volume and a machine", got.ResourceRefs)
	}
	if got.BitmapName != "" {
		t.Errorf("bitmapName = %q where the machines' differ, want none", got.BitmapName)
	}
	if want := made.Add(time.Minute); !got.LastOpDate.Equal(want) {
		t.Errorf("lastOpDate = %v, want when the transition began, %v", got.LastOpDate, want)
	}
	task.Pending = core.CBTPending{Op: core.CBTCheck, Look: true, At: made.Add(time.Hour)}
	task.Records[1].Chain = task.Records[0].Chain
	got = a.cbtTaskInventory(task)
	if want := made.Add(time.Second); !got.LastOpDate.Equal(want) || got.BitmapName != "cbt-b70f4160919c-2" {
		t.Errorf("lastOpDate = %v, bitmapName %q; want %v (a look changes nothing) and the common one", got.LastOpDate, got.BitmapName, want)
	}
}
