package zstack

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// The inventories of CBT tasks. The order of fields is the documentation's; what
// Takt adds stands behind, where both SDKs ignore it.

const (
	cbtPrefix     = "org.zstack.header.cbt."
	cbtTaskClass  = cbtPrefix + "CbtTaskInventory"
	cbtRefClass   = cbtPrefix + "CbtTaskResourceRefInventory"
	cbtInfoClass  = cbtPrefix + "VolumeCbtBackupInfo"
	vmKind        = "VmInstanceVO"
	volumeKind    = "VolumeVO"
	usualTaskType = "VM"
)

type cbtTaskInventory struct {
	UUID         string   `json:"uuid"`
	Name         string   `json:"name"`
	Description  nullable `json:"description"`
	CreateDate   stamp    `json:"createDate"`
	LastOpDate   stamp    `json:"lastOpDate"`
	Status       string   `json:"status"`
	ResourceRefs cbtRefs  `json:"resourceRefs"`
	TaskType     string   `json:"taskType"`
	// BitmapName is the youngest checkpoint: what EnableCbtTask is given to have
	// what changed since. Null before the first, and while the machines' differ.
	BitmapName nullable `json:"bitmapName"`
	LastError  nullable `json:"lastError"`
}

// children implements parent.
func (v cbtTaskInventory) children() (field, class string, n int) {
	return "resourceRefs", cbtRefClass, len(v.ResourceRefs)
}

// cbtRefs are the machines of a task.
type cbtRefs []cbtRefInventory

type cbtRefInventory struct {
	TaskUUID     string `json:"taskUuid"`
	ResourceUUID string `json:"resourceUuid"`
	ResourceType string `json:"resourceType"` // VmInstanceVO, or VolumeVO where a volume is tracked by itself
	CreateDate   stamp  `json:"createDate"`
	LastOpDate   stamp  `json:"lastOpDate"`
}

// cbtTaskColumns are those of the inventory, and the texts of its references under
// both names that ZStack has for them: that of the list, and that of its expanded
// query. The list itself stands for its resources.
func cbtTaskColumns() class {
	c := newClass[cbtTaskInventory](cbtTaskClass, nil)
	refs := c.columns["resourceRefs"]
	refs.kind = listKind
	for i, f := range reflect.VisibleFields(reflect.TypeFor[cbtRefInventory]()) {
		if f.Type.Kind() != reflect.String {
			continue
		}
		col, name := refs, f.Tag.Get("json")
		col.inner = i + 1
		if name == "resourceUuid" {
			c.columns["resourceRefs"] = col
		}
		col.hidden = true
		c.columns["resourceRefs."+name], c.columns["resourceRef."+name] = col, col
	}
	return c
}

func (a *API) cbtTaskInventory(t core.CBTTask) cbtTaskInventory {
	made, changed := a.stamp(t.Created), a.stamp(lastChange(t))
	v := cbtTaskInventory{
		UUID: t.UUID, Name: t.Name, Description: nullable(t.Description), CreateDate: made, LastOpDate: changed,
		Status: string(t.Status), TaskType: t.TaskType, BitmapName: nullable(youngestBitmap(t)), LastError: nullable(t.Reason),
		ResourceRefs: make(cbtRefs, len(t.Machines)),
	}
	for i, machine := range t.Machines {
		v.ResourceRefs[i] = cbtRefInventory{t.UUID, machine, resourceKind(t, i), made, made}
	}
	return v
}

// cbtTasks gives the inventories of the tasks that the caller may see, oldest first,
// or only the one with a uuid.
func (a *API) cbtTasks(ctx context.Context, uuid string) ([]any, error) {
	all, err := read(ctx, uuid, a.eng.CBTTask, a.eng.CBTTasks)
	oldestFirst(all, func(t core.CBTTask) core.Meta { return t.Meta })
	out := make([]any, len(all))
	for i, t := range all {
		out[i] = a.cbtTaskInventory(t)
	}
	return out, err
}

// lastChange is when a task was edited, or its last transition began or ended.
func lastChange(t core.CBTTask) time.Time {
	times := []time.Time{t.Updated, t.Last.Ended}
	if t.Changing() {
		times = append(times, t.Pending.At)
	}
	return slices.MaxFunc(times, time.Time.Compare)
}

// resourceKind tells a volume that a worker tracks by itself, as a machine of one
// disk that has the machine's uuid.
func resourceKind(t core.CBTTask, machine int) string {
	if machine < len(t.Records) {
		if v := t.Records[machine].Volumes; len(v) == 1 && v[0].UUID == t.Machines[machine] {
			return volumeKind
		}
	}
	return vmKind
}

// youngestBitmap is the name of the checkpoint that all machines have as their
// last, or "".
func youngestBitmap(t core.CBTTask) string {
	if len(t.Records) == 0 {
		return ""
	}
	last := t.Records[0].Chain.Last()
	same := func(r cbt.Record) bool { return r.Chain.Last() == last }
	if last == 0 || slices.ContainsFunc(t.Records, func(r cbt.Record) bool { return !same(r) }) {
		return ""
	}
	return cbt.CheckpointName(t.UUID, last)
}
