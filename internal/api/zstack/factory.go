package zstack

import (
	"errors"
	"slices"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// ZStack's own job types of the volume and VM family, as its documentation has
// them. They are carried out by whichever worker announces an executor of that
// name; until one has, a job of that type is refused.
//
// All parameters are texts. Those the documentation calls mandatory are not
// enforced: its own examples send none. What is not listed is passed through.

var (
	backupSpeed = []string{"volumeReadBandwidth", "volumeWriteBandwidth", "networkReadBandwidth", "networkWriteBandwidth", "fullBackupTriggerUuid"}
	backupKept  = []string{"retentionType", "retentionValue", "backupStorageUuids"} // mandatory, by the documentation
	backupAway  = []string{"remoteBackupStorageUuid"}
)

// JobTypes gives the specs of ZStack's own job types, for the workers that are to
// carry them out.
func JobTypes() []executor.Spec {
	return []executor.Spec{
		declared("startVm", "starts the VM that the job acts on"),
		declared("stopVm", "stops the VM that the job acts on"),
		declared("rebootVm", "restarts the VM that the job acts on"),
		declared("volumeSnapshot", "takes a snapshot of a volume", []string{"snapshotMaxNumber", "snapshotName", "snapshotDescription"}),
		declared("volumeSnapshotGroup", "takes a snapshot of all volumes of a VM", []string{"snapshotGroupMaxNumber"}),
		declared("volumeBackup", "backs a data volume up", backupSpeed, backupKept, backupAway),
		declared("rootVolumeBackup", "backs a root volume up", backupSpeed, backupKept, backupAway),
		declared("vmBackup", "backs a VM up with all its volumes; the job acts on the root volume", backupSpeed, backupKept),
		declared("databaseBackup", "backs the management database up", backupKept, backupAway),
	}
}

func declared(name, description string, parameters ...[]string) executor.Spec {
	s := executor.Spec{Type: name, Description: description, Open: true}
	for _, p := range slices.Concat(parameters...) {
		s.Parameters = append(s.Parameters, executor.Parameter{Name: p, Kind: executor.String})
	}
	return s
}

// typed completes the refusal of a type that nobody ever announced: one of
// ZStack's own is not misspelled, it lacks a driver.
func typed(err error, jobType string) error {
	var e *core.Error
	own := slices.ContainsFunc(JobTypes(), func(s executor.Spec) bool { return s.Type == jobType })
	if !own || !errors.As(err, &e) || e.Kind != core.Invalid || e.Field != "type" {
		return err
	}
	return badArgument("%s; it takes a worker that has a driver for %s", e.Text, jobType)
}
