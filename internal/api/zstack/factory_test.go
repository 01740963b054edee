package zstack_test

import (
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

// The table "Type, parameters" of ZStack's documentation.
func TestJobTypesAndTheirParameters(t *testing.T) {
	const backup = "volumeReadBandwidth volumeWriteBandwidth networkReadBandwidth networkWriteBandwidth fullBackupTriggerUuid retentionType retentionValue backupStorageUuids"
	want := map[string]string{
		"startVm": "", "stopVm": "", "rebootVm": "",
		"volumeSnapshot":      "snapshotMaxNumber snapshotName snapshotDescription",
		"volumeSnapshotGroup": "snapshotGroupMaxNumber",
		"volumeBackup":        backup + " remoteBackupStorageUuid",
		"rootVolumeBackup":    backup + " remoteBackupStorageUuid",
		"vmBackup":            backup,
		"databaseBackup":      "retentionType retentionValue backupStorageUuids remoteBackupStorageUuid",
	}
	got := map[string]string{}
	for _, s := range zstack.JobTypes() {
		var names []string
		for _, p := range s.Parameters {
			names = append(names, p.Name)
			if p.Required || p.Kind != executor.String {
				t.Errorf("%s of %s = %+v, want a text that need not be there", p.Name, s.Type, p)
			}
		}
		got[s.Type] = strings.Join(names, " ")
	}
	equal(t, "parameters", got, want)
}

// A type is served when a worker announces it, and refused before.
func TestJobTypeThatNobodyAnnounced(t *testing.T) {
	r := newReplica(t, setting{types: []executor.Spec{}})
	make := func(jobType string) []reply {
		return []reply{
			r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"`+jobType+`"}}`),
			r.do("POST", "/scheduler/jobs", `{"params":{"name":"j","type":"`+jobType+`","targetResourceUuid":"`+id.New()+`"}}`),
		}
	}
	for _, s := range zstack.JobTypes() {
		for _, a := range make(s.Type) {
			a.fails(503, "SYS.1007", "No SchedulerJobFactory of type["+s.Type+"] found: no worker has ever announced this job type; it takes a worker that has a driver for "+s.Type)
		}
	}
	for _, a := range make("startvm") {
		a.fails(503, "SYS.1007", "No SchedulerJobFactory of type[startvm] found")
		if strings.Contains(a.raw, "driver") {
			t.Errorf("%s: got %s, want no word of a driver: this is no type of ZStack's", a.what, a.raw)
		}
	}
	w := core.Worker{ID: "w", Host: "h", Queues: []string{"default"}, Types: []executor.Spec{{Type: "startVm", Open: true}}}
	if _, err := r.store.Beat(r.ctx(), core.Heartbeat{Worker: w.ID}, &w); err != nil {
		t.Fatal(err)
	}
	for _, a := range make("startVm") {
		a.inventory()
	}
	make("stopVm")[0].fails(503, "SYS.1007", "No SchedulerJobFactory of type[stopVm] found")
}
