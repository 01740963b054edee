package client

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
)

// TestTypesAreTheServers holds each wire type to the server's: the same fields,
// under the same names, of the same kinds.
func TestTypesAreTheServers(t *testing.T) {
	pairs := []struct{ ours, theirs any }{
		{Problem{}, native.Problem{}}, {Meta{}, native.Meta{}}, {JobFields{}, native.JobFields{}}, {NewJob{}, native.NewJob{}}, {Job{}, native.Job{}},
		{Retry{}, native.Retry{}}, {GroupFields{}, native.GroupFields{}}, {NewGroup{}, native.NewGroup{}}, {Group{}, native.Group{}},
		{Member{}, native.Member{}}, {addJobs{}, native.AddJobs{}}, {Schedule{}, native.Schedule{}}, {Misfire{}, native.Misfire{}},
		{Overlap{}, native.Overlap{}}, {TriggerFields{}, native.TriggerFields{}}, {NewTrigger{}, native.NewTrigger{}}, {Trigger{}, native.Trigger{}},
		{Target{}, native.Target{}}, {NewBinding{}, native.NewBinding{}}, {Binding{}, native.Binding{}}, {fireRequest{}, native.FireRequest{}},
		{LedgerEntry{}, native.LedgerEntry{}}, {LedgerDay{}, native.LedgerDay{}}, {Ledger{}, native.Ledger{}}, {runRequest{}, native.RunRequest{}},
		{cancelRequest{}, native.CancelRequest{}}, {Run{}, native.Run{}}, {StepCounts{}, native.StepCounts{}}, {runList{}, native.RunList{}},
		{RunDetail{}, native.RunDetail{}}, {Step{}, native.Step{}}, {Attempt{}, native.Attempt{}}, {Progress{}, native.Progress{}}, {logText{}, native.LogText{}},
		{newSession{}, native.NewSession{}}, {session{}, native.Session{}}, {Me{}, native.Me{}},
		{CBTFields{}, native.CBTFields{}}, {NewCBTTask{}, native.NewCBTTask{}}, {CBTTask{}, native.CBTTask{}}, {cbtTaskList{}, native.CBTTaskList{}},
		{CBTMachine{}, native.CBTMachine{}}, {CBTVolume{}, native.CBTVolume{}}, {CBTSession{}, native.CBTSession{}}, {CBTExport{}, native.CBTExport{}},
		{cbtEnable{}, native.CBTEnable{}}, {cbtDisable{}, native.CBTDisable{}}, {Checkpoint{}, native.Checkpoint{}},
		{checkpointList{}, native.CheckpointList{}}, {Changes{}, native.Changes{}}, {Extent{}, native.Extent{}},
		{estimateList{}, native.EstimateList{}}, {Estimate{}, native.Estimate{}}, {VolumeEstimate{}, native.VolumeEstimate{}},
		{NewBackup{}, native.NewBackup{}}, {Backup{}, native.Backup{}}, {BackupMachine{}, native.BackupMachine{}}, {BackupFile{}, native.BackupFile{}},
		{backupList{}, native.BackupList{}}, {RestoreOf{}, native.RestoreBackup{}},
	}
	for _, p := range pairs {
		ours := reflect.TypeOf(p.ours)
		if diff := cmp.Diff(fields(reflect.TypeOf(p.theirs)), fields(ours)); diff != "" {
			t.Errorf("%s (-server +client):\n%s", ours.Name(), diff)
		}
	}
}

func fields(t reflect.Type) map[string]string {
	out := map[string]string{}
	for _, f := range reflect.VisibleFields(t) {
		if tag := f.Tag.Get("json"); !f.Anonymous && tag != "-" {
			out[tag] = kind(f.Type)
		}
	}
	return out
}

func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + kind(t.Elem())
	case reflect.Slice:
		return "[]" + kind(t.Elem())
	case reflect.Map:
		return "map of " + kind(t.Elem())
	case reflect.Struct:
		return strings.ToLower(t.Name())
	}
	return t.Kind().String()
}
