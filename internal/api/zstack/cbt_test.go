package zstack_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// What section 3.6 of the wire contract refuses, row by row.
func TestCBTRefused(t *testing.T) {
	r, _ := attended(t, zstack.Options{})
	vm, volume, nobody := id.New(), id.New(), id.New()
	busy, running := r.cbtTask(vm), r.cbtTask(id.New())
	r.do("POST", "/cbt-task/enable/"+running, "").ok()
	const create, export, unexport = "/cbt-task/create", "/cbt-task/exportvolume", "/cbt-task/unexportvolume"
	fresh := func() string { return `"vmInstanceUuid":"` + id.New() + `"` }
	r.refuses([]refusal{
		{"CreateCbtTask: name req", "POST", create, params(fresh()), business, argument, "field[name] of message[APICreateCbtTaskMsg] is mandatory"},
		{"CreateCbtTask: name req<=255", "POST", create, params(`"name":"` + strings.Repeat("x", 256) + `",` + fresh()), business, argument, "name has 256 characters"},
		{"CreateCbtTask: name with a tab", "POST", create, params(`"name":"a\tb",` + fresh()), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+0009"},
		{"CreateCbtTask: description<=2048", "POST", create, params(`"name":"t","description":"` + strings.Repeat("x", 2049) + `",` + fresh()), business, argument, "description has 2049 characters"},
		{"CreateCbtTask: taskType<=64", "POST", create, params(`"name":"t","taskType":"` + strings.Repeat("x", 65) + `",` + fresh()), business, argument, "taskType has 65 characters"},
		{"CreateCbtTask: neither resourceUuids nor vmInstanceUuid", "POST", create, params(`"name":"t"`), business, argument, "field[resourceUuids] of message[APICreateCbtTaskMsg] is mandatory"},
		{"CreateCbtTask: resourceUuids is empty", "POST", create, params(`"name":"t","resourceUuids":[]`), business, argument, "field[resourceUuids] of message[APICreateCbtTaskMsg] must be a nonempty list"},
		{"CreateCbtTask: resourceUuids names nothing", "POST", create, params(`"name":"t","resourceUuids":["vm"]`), business, notFound, missing("resourceUuids", "vm", "VmInstanceVO")},
		{"CreateCbtTask: vmInstanceUuid names nothing", "POST", create, params(`"name":"t","vmInstanceUuid":"vm"`), business, notFound, missing("vmInstanceUuid", "vm", "VmInstanceVO")},
		{"CreateCbtTask: vmInstanceUuid is a placeholder", "POST", create, params(`"name":"t","vmInstanceUuid":"<vmInstanceUuid>"`), business, argument, "field[vmInstanceUuid] of message[APICreateCbtTaskMsg] is not a valid uuid"},
		{"CreateCbtTask: resourceUuids is a map", "POST", create, params(`"name":"t","resourceUuids":{"a":"b"}`), shape, argument, "[resourceUuids] field is excepted a list of strings"},
		{"CreateCbtTask: more machines than a task may have", "POST", create, params(`"name":"t","resourceUuids":["` + strings.Join(machines(17), `","`) + `"]`), business, argument, "from 1 to 16 machines, not 17"},
		{"CreateCbtTask: a machine of another task", "POST", create, params(`"name":"t","vmInstanceUuid":"` + vm + `"`), business, argument, "VM [uuid: " + vm + "] have been protected by task: " + busy},
		{"CreateCbtTask: one of several is another task's", "POST", create, params(`"name":"t","taskType":"Machine","resourceUuids":["` + nobody + `","` + vm + `"]`), business, argument, "Machine [uuid: " + vm + "] have been protected by task: " + busy},
		{"CreateCbtTask: resourceUuid of version 7", "POST", create, params(`"name":"t","resourceUuid":"0198c0de000070008000000000000000",` + fresh()), business, argument, "resourceUuid[0198c0de000070008000000000000000] is not a valid uuid"},
		{"CreateCbtTask: tagUuids is no list", "POST", create, params(`"name":"t","tagUuids":{"a":"b"},` + fresh()), shape, argument, "[tagUuids] field is excepted a list of strings"},
		{"EnableCbtTask: uuid names nothing", "POST", "/cbt-task/enable/" + nobody, "", business, notFound, missing("uuid", nobody, "CbtTaskVO")},
		{"EnableCbtTask: uuid is no uuid", "POST", "/cbt-task/enable/task", "", business, notFound, missing("uuid", "task", "CbtTaskVO")},
		{"EnableCbtTask: uuid is a placeholder", "POST", "/cbt-task/enable/%7Buuid%7D", "", business, argument, "field[uuid] of message[APIEnableCbtTaskMsg] is not a valid uuid"},
		{"EnableCbtTask: bitmapName is unknown", "POST", "/cbt-task/enable/" + busy, params(`"bitmapName":"` + cbt.CheckpointName(busy, 7) + `"`), business, notFound, `there is no checkpoint "` + cbt.CheckpointName(busy, 7) + `"`},
		{"EnableCbtTask: bitmapName is another task's", "POST", "/cbt-task/enable/" + busy, params(`"bitmapName":"cbt-b70f4160919c-1"`), business, notFound, `there is no checkpoint "cbt-b70f4160919c-1"`},
		{"EnableCbtTask: bitmapName is a map", "POST", "/cbt-task/enable/" + busy, params(`"bitmapName":{}`), shape, argument, "[bitmapName] field is excepted a string"},
		{"EnableCbtTask: enabled since another bitmap", "POST", "/cbt-task/enable/" + running, params(`"bitmapName":"` + cbt.CheckpointName(running, 1) + `"`), business, "SYS.1006", "Cbt task[uuid: " + running + "] has already enabled, please disable it."},
		{"DisableCbtTask: force is no boolean", "POST", "/cbt-task/disable/" + busy, params(`"force":"yes"`), shape, argument, "[force] field is excepted a boolean, but was [yes]"},
		{"DisableCbtTask: force beside params is no boolean", "POST", "/cbt-task/disable/" + busy, `{"params":{},"force":"yes"}`, shape, argument, "[force] field is excepted a boolean, but was [yes]"},
		{"DeleteCbtTask: uuid is no uuid", "DELETE", "/cbt-task/task", "", business, notFound, missing("uuid", "task", "CbtTaskVO")},
		{"DeleteCbtTask: deleteMode in the query", "DELETE", "/cbt-task/" + busy + "?deleteMode=Gently", "", business, argument, "valid value for field[deleteMode] of message[APIDeleteCbtTaskMsg] are [Permissive, Enforcing], but Gently found"},
		{"DeleteCbtTask: deleteMode in the body", "DELETE", "/cbt-task/" + busy, `{"deleteMode":"Gently"}`, business, argument, "but Gently found"},
		{"DeleteCbtTask: force in the query", "DELETE", "/cbt-task/" + busy + "?force=perhaps", "", shape, argument, "[force] field is excepted a boolean, but was [perhaps]"},
		{"DeleteCbtTask: force in the body", "DELETE", "/cbt-task/" + busy, `{"force":"perhaps"}`, shape, argument, "[force] field is excepted a boolean, but was [perhaps]"},
		{"ExportNbdVolumes: vmInstanceUuid req", "POST", export, params(`"volumeUuids":["` + volume + `"]`), business, argument, "field[vmInstanceUuid] of message[APIExportNbdVolumesMsg] is mandatory"},
		{"ExportNbdVolumes: volumeUuids req", "POST", export, params(`"vmInstanceUuid":"` + vm + `"`), business, argument, "field[volumeUuids] of message[APIExportNbdVolumesMsg] is mandatory"},
		{"ExportNbdVolumes: volumeUuids is empty", "POST", export, params(`"volumeUuids":[],"vmInstanceUuid":"` + vm + `"`), business, argument, "field[volumeUuids] of message[APIExportNbdVolumesMsg] must be a nonempty list"},
		{"ExportNbdVolumes: a volume that is none", "POST", export, params(`"volumeUuids":["v"],"vmInstanceUuid":"` + vm + `"`), business, notFound, missing("volumeUuids", "v", "VolumeVO")},
		{"ExportNbdVolumes: a machine that no task has", "POST", export, params(`"volumeUuids":["` + volume + `"],"vmInstanceUuid":"` + nobody + `"`), business, notFound, nobody},
		{"UnexportNbdVolumes: vmInstanceUuid req", "POST", unexport, params(`"volumeUuids":["` + volume + `"]`), business, argument, "field[vmInstanceUuid] of message[APIUnexportNbdVolumesMsg] is mandatory"},
		{"UnexportNbdVolumes: volumeUuids req", "POST", unexport, params(`"vmInstanceUuid":"` + vm + `"`), business, argument, "field[volumeUuids] of message[APIUnexportNbdVolumesMsg] is mandatory"},
	})
	// No UpdateCbtTask exists.
	r.do("PUT", "/cbt-task/"+busy+"/actions", put("updateCbtTask", `"name":"x"`)).fails(http.StatusNotFound, notFound, "no api mapping")
	equal(t, "tasks afterwards", len(r.do("GET", "/cbt-task", "").inventories()), 2)
}

// A machine whose claim was given back can be claimed again.
func TestCBTRefusedCreateLeavesNoClaim(t *testing.T) {
	r, _ := attended(t, zstack.Options{})
	vm, other := id.New(), id.New()
	r.cbtTask(vm)
	r.do("POST", "/cbt-task/create", params(`"name":"t","resourceUuids":["`+other+`","`+vm+`"]`)).fails(business, argument, "have been protected")
	r.cbtTask(other)
}

// Both forms of CreateCbtTask, alone and together.
func TestCBTCreateNamesMachines(t *testing.T) {
	r, _ := attended(t, zstack.Options{})
	m := machines(9)
	for _, row := range []struct {
		name, fields string
		want         []string
		taskType     string
	}{
		{"vmInstanceUuid", `"vmInstanceUuid":"` + m[0] + `"`, m[:1], "VM"},
		{"resourceUuids", `"resourceUuids":["` + m[1] + `","` + m[2] + `"]`, m[1:3], "VM"},
		{"resourceUuids as one text", `"taskType":"VM","resourceUuids":"` + m[3] + `"`, m[3:4], "VM"},
		{"both, with one in common", `"vmInstanceUuid":"` + m[4] + `","resourceUuids":["` + m[5] + `","` + m[4] + `"]`, []string{m[4], m[5]}, "VM"},
		{"any task type", `"taskType":"Disaster Recovery","vmInstanceUuid":" ` + m[6] + ` "`, m[6:7], "Disaster Recovery"},
		{"resourceUuids with a repetition", `"resourceUuids":["` + m[7] + `","` + m[7] + `"]`, m[7:8], "VM"},
		{"fields of other calls and the SDK's own", `"vmInstanceUuid":"` + m[8] + `","requestIp":"10.0.0.1","systemTags":["a::b"],"force":true`, m[8:9], "VM"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			inv := r.do("POST", "/cbt-task/create", params(`"name":"t",`+row.fields)).inventory()
			refs, _ := inv["resourceRefs"].([]any)
			got := []string{}
			for _, ref := range refs {
				got = append(got, ref.(map[string]any)["resourceUuid"].(string))
			}
			equal(t, "machines", got, row.want)
			equal(t, "taskType", inv["taskType"], any(row.taskType))
		})
	}
}

// An account sees its own tasks, and a call on another's is refused.
func TestCBTOfOthers(t *testing.T) {
	vm := id.New()
	r, host := attended(t, zstack.Options{}, vm)
	ann, bob := r.signIn("ann", core.Operator), r.signIn("bob", core.Operator)
	hers := *r
	hers.session = ann
	task := hers.cbtTask(vm)
	for _, row := range []struct{ name, method, path, body string }{
		{"EnableCbtTask", "POST", "/cbt-task/enable/" + task, ""},
		{"DisableCbtTask", "POST", "/cbt-task/disable/" + task, params(`"force":true`)},
		{"DeleteCbtTask", "DELETE", "/cbt-task/" + task + "?force=true", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t, r.session = t, bob
			r.do(row.method, row.path, row.body).fails(business, "ID.1002", "type:CbtTaskVO")
			job := newJobUUID()
			r.accepted(job, r.do(row.method, row.path, row.body, "X-Job-UUID", job)).fails(business, "ID.1002", "type:CbtTaskVO")
		})
	}
	his := *r
	his.session = bob
	equal(t, "what another account sees", len(his.do("GET", "/cbt-task", "").inventories()), 0)
	equal(t, "status to another account", his.cbtStatus(task), "gone")
	equal(t, "status to its own", hers.cbtStatus(task), "Created")
	volume := understudy.Volume(vm, 0)
	his.do("POST", "/cbt-task/exportvolume", params(`"vmInstanceUuid":"`+vm+`","volumeUuids":["`+volume+`"]`)).fails(business, notFound, vm)
	if got := host.Orders(cbt.OpExport); len(got) != 0 {
		t.Errorf("orders = %+v, want none", got)
	}
	viewer := *r
	viewer.session = r.signIn("vic", core.Viewer)
	viewer.do("POST", "/cbt-task/create", params(`"name":"t","vmInstanceUuid":"`+id.New()+`"`)).fails(business, "ID.1002", "may not make a CBT task")
}

// The restore path: ExportNbdVolumes and UnexportNbdVolumes.
func TestCBTRestore(t *testing.T) {
	vm := id.New()
	r, host := attended(t, zstack.Options{}, vm)
	task := r.cbtTask(vm)
	a, b := understudy.Volume(vm, 0), understudy.Volume(vm, 1)
	export := func(fields string) reply {
		return r.do("POST", "/cbt-task/exportvolume", params(fields+`"vmInstanceUuid":"`+vm+`","volumeUuids":["`+b+`","`+a+`"]`), "X-JSON-Schema", "true")
	}
	got := export("")
	body := got.ok()
	infos, _ := body["volumeInfos"].([]any)
	if len(infos) != 2 || body["success"] != true {
		t.Fatalf("answer = %s, want two volumes and success", got.raw)
	}
	schema, _ := body["schema"].(map[string]any)
	equal(t, "schema", schema["volumeInfos[1]"], any("org.zstack.header.cbt.VolumeCbtBackupInfo"))
	first := infos[0].(map[string]any)
	var m map[string]any
	if err := json.Unmarshal([]byte(first["metadata"].(string)), &m); err != nil {
		t.Fatal(err)
	}
	delete(first, "metadata")
	equal(t, "info", first, map[string]any{
		"volume": map[string]any{"volumeUuid": b, "installPath": "/vm/" + vm + "/disk1.qcow2", "deviceId": json.Number("1"), "deviceType": "file", "format": "qcow2"},
		"mode":   "full", "bitmapName": nil, "bitmapBase64": nil, "target": nil, "scratchNodeName": nil, "nbdServer": "host1", "nbdPort": "10800",
	})
	equal(t, "metadata", m, map[string]any{
		"vmInstanceUuid": vm, "uri": "nbds://host1:10800/restore-0", "exportName": "restore-0", "tls": true, "size": float64(understudy.Size), "context": nil, "sinceBitmapName": nil,
	})
	export("").fails(business, "SYS.1006", "is exported already")
	export(`"force":true,`).ok()
	orders := host.Orders(cbt.OpExport)
	if len(orders) != 2 || orders[0].Force || !orders[1].Force || len(orders[1].Token) < 16 {
		t.Errorf("orders = %+v, want a plain one and one with force, with tokens", orders)
	}
	unexport := `"vmInstanceUuid":"` + vm + `","volumeUuids":["` + a + `","` + b + `"]`
	for range 2 { // the second time they are not exported
		equal(t, "unexport", r.do("POST", "/cbt-task/unexportvolume", params(unexport)).ok(), map[string]any{})
	}
	host.Fail(cbt.OpExport, "vm is running")
	export("").fails(business, "SYS.1006", "export of the CBT task failed: vm is running")
	equal(t, "status", r.cbtStatus(task), "Created")
}
