package zstack

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// CBT tasks. A task's status changes when workers have done what it says; each call
// that changes it starts a run, or joins the one that a request made before, and
// waits for its end:
//
//	EnableCbtTask ─▶ Starting ─ run ─▶ Running   200, with what to read
//	                              └──▶ Failed    503, with why
//
// A direct EnableCbtTask that takes longer than SyncWait answers 200 with the status
// Starting, and not 202: clients of that form ask for the status themselves.

// cbtEndpoints are the calls that change something.
func (a *API) cbtEndpoints() []endpoint {
	at := func(method, path, name string, prepare func(*input) operation) endpoint {
		return endpoint{method, "/cbt-task/" + path, []call{{name, prepare}}}
	}
	return []endpoint{
		at(http.MethodPost, "create", "CreateCbtTask", a.createCbtTask),
		at(http.MethodPost, "enable/:uuid", enableCbtTask, a.enableCbtTask),
		at(http.MethodPost, "disable/:uuid", "DisableCbtTask", a.disableCbtTask),
		at(http.MethodDelete, ":uuid", "DeleteCbtTask", a.deleteCbtTask),
		at(http.MethodPost, "exportvolume", exportNbdVolumes, a.exportNbdVolumes),
		at(http.MethodPost, "unexportvolume", "UnexportNbdVolumes", a.unexportNbdVolumes),
	}
}

const (
	enableCbtTask    = "EnableCbtTask"
	exportNbdVolumes = "ExportNbdVolumes"
)

// usualTimeout is how long a call may take whose client does not say: 3 h for those
// that copy or compare disks, as in ZStack.
func (a *API) usualTimeout(name string) time.Duration {
	if name == enableCbtTask || name == exportNbdVolumes {
		return max(a.opts.Timeout, maxTimeout)
	}
	return a.opts.Timeout
}

func cbtTaskRef(field, uuid string) ref { return ref{"CBT task", "CbtTaskVO", field, uuid} }
func vmRef(field, uuid string) ref      { return ref{"resource", vmKind, field, uuid} }
func volumeRef(field, uuid string) ref  { return ref{"volume", volumeKind, field, uuid} }

// createCbtTask serves CreateCbtTask. Its machines are in resourceUuids, or the one
// in vmInstanceUuid, as all of ZStack's examples have it.
func (a *API) createCbtTask(in *input) operation {
	t := core.CBTTask{
		Meta: in.meta(), TaskType: cmp.Or(in.text("taskType"), usualTaskType), Machines: in.machines(),
	}
	return func(ctx context.Context) (answer, error) {
		made, err := a.eng.CreateCBTTask(ctx, t)
		if core.Is(err, core.Conflict) { // the machine is another task's: ZStack blames the argument
			return answer{}, badArgument("%s", core.Text(err))
		}
		if err != nil {
			return answer{}, err
		}
		return a.cbtAnswer(made), nil
	}
}

func (a *API) cbtAnswer(t core.CBTTask) answer {
	an := one(cbtTaskClass, a.cbtTaskInventory(t))
	an.success = true
	return an
}

// machines reads what a task is to track.
func (in *input) machines() []string {
	const many, single = "resourceUuids", "vmInstanceUuid"
	list := in.texts(many)
	for _, u := range list {
		in.checkRef(vmRef(many, u))
	}
	if vm := in.text(single); vm != "" {
		in.checkRef(vmRef(single, vm))
		list = distinct(slices.Insert(list, 0, vm))
	}
	if len(list) == 0 {
		in.mustList(many)
	}
	return list
}

// mustList refuses a list that is empty or not given.
func (in *input) mustList(field string) {
	if in.lookup(field) == nil {
		in.mandatory(field)
		return
	}
	in.fail(badArgument("field[%s] of message[API%sMsg] must be a nonempty list", field, in.call))
}

// enableCbtTask serves EnableCbtTask. An empty bitmapName, which some SDKs send, is
// none: a full copy.
func (a *API) enableCbtTask(in *input) operation {
	task, bitmap := in.resource("uuid", cbtTaskRef, "uuid"), in.text("bitmapName")
	return func(ctx context.Context) (answer, error) {
		t, err := a.beginEnable(ctx, task, bitmap)
		if err != nil {
			return answer{}, err
		}
		waiting, stop := a.staying(ctx)
		defer stop()
		waiting, stop = untilAnswerDue(waiting)
		defer stop()
		now, err := a.ended(waiting, t)
		switch {
		case errors.Is(err, errAnswerDue), errors.Is(err, errLeaving) && isDirect(ctx):
			return withInfos(a.cbtAnswer(t), nil), nil
		case err != nil:
			return answer{}, err
		case now.UUID == "":
			return answer{}, task.missing()
		}
		details, err := a.eng.CBTDetails(ctx, now)
		if core.Is(err, core.Unavailable) {
			return answer{}, err // to be asked for again
		}
		if err != nil { // what is open must not be answered with an error
			a.log.ErrorContext(ctx, "bitmaps left out of an answer", "task", now.UUID, "err", err)
		}
		return withInfos(a.cbtAnswer(now), cbtInfos(now, details)), nil
	}
}

// beginEnable refuses what is enabled already, or is being enabled by another
// request, be it with the same bitmap: ZStack's words for it.
func (a *API) beginEnable(ctx context.Context, task ref, bitmap string) (core.CBTTask, error) {
	t, err := a.eng.EnableCBTTask(ctx, task.uuid, bitmap)
	enabled := err == nil && t.Pending.By != core.RequestFrom(ctx).Key
	if core.Is(err, core.Conflict) {
		now, err := a.eng.CBTTask(ctx, task.uuid)
		enabled = err == nil && now.Status == core.CBTRunning && !now.Busy()
	}
	if enabled {
		return t, failed(codeOperation, "Cbt task[uuid: %s] has already enabled, please disable it.", task.uuid)
	}
	return t, named(err, task)
}

// withInfos adds what can be read; ZStack's page shows the list also where its table
// has the inventory.
func withInfos(an answer, infos []any) answer {
	if infos == nil {
		infos = []any{}
	}
	an.parts = []part{{key: "volumeCbtBackupInfos", class: cbtInfoClass, list: infos}}
	return an
}

// disableCbtTask serves DisableCbtTask. Unlike a deletion it fails for a task that is
// gone. Force does not wait for the agent: the result is delivered before workers have
// closed what was open.
func (a *API) disableCbtTask(in *input) operation {
	task, force := in.resource("uuid", cbtTaskRef, "uuid"), in.flag("force")
	return func(ctx context.Context) (answer, error) {
		ctx, stop := a.staying(ctx)
		defer stop()
		t, err := a.eng.DisableCBTTask(ctx, task.uuid, force)
		if err != nil {
			return answer{}, named(interrupted(ctx, err), task)
		}
		if t.Pending.Behind {
			return a.cbtAnswer(t), nil
		}
		now, err := a.ended(ctx, t)
		if err != nil {
			return answer{}, err
		}
		if now.UUID == "" {
			return answer{}, task.missing()
		}
		return a.cbtAnswer(now), nil
	}
}

// deleteCbtTask serves DeleteCbtTask, which succeeds for what is gone. Enforcing is
// force: both end what is under way first.
func (a *API) deleteCbtTask(in *input) operation {
	task := in.doomed(cbtTaskRef)
	force := in.flag("force") || in.text("deleteMode") == "Enforcing"
	return func(ctx context.Context) (answer, error) {
		ctx, stop := a.staying(ctx)
		defer stop()
		t, err := a.eng.DeleteCBTTask(ctx, task, force)
		if err == nil && t.UUID != "" {
			_, err = a.ended(ctx, t)
		}
		return answer{}, interrupted(ctx, err)
	}
}

// exportNbdVolumes serves ExportNbdVolumes: volumes of a stopped machine, to be
// written by a restore.
func (a *API) exportNbdVolumes(in *input) operation {
	machine, volumes := in.restored()
	force := in.flag("force")
	return func(ctx context.Context) (answer, error) {
		ctx, stop := a.staying(ctx)
		defer stop()
		t, err := a.eng.ExportVolumes(ctx, machine.uuid, volumes, force)
		if err != nil {
			return answer{}, namedRestore(interrupted(ctx, err), machine, volumes)
		}
		now, err := a.ended(ctx, t)
		if err != nil {
			return answer{}, err
		}
		infos := restoreInfos(now, machine.uuid, volumes)
		return answer{success: true, parts: []part{{key: "volumeInfos", class: cbtInfoClass, list: infos}}}, nil
	}
}

// unexportNbdVolumes serves UnexportNbdVolumes. What is not exported is no error.
func (a *API) unexportNbdVolumes(in *input) operation {
	machine, volumes := in.restored()
	return func(ctx context.Context) (answer, error) {
		ctx, stop := a.staying(ctx)
		defer stop()
		t, err := a.eng.UnexportVolumes(ctx, machine.uuid, volumes)
		if err == nil {
			_, err = a.ended(ctx, t)
		}
		return answer{}, namedRestore(interrupted(ctx, err), machine, volumes)
	}
}

// restored reads whose volumes are meant.
func (in *input) restored() (machine ref, volumes []string) {
	machine = vmRef("vmInstanceUuid", in.mustText("vmInstanceUuid"))
	if machine.uuid != "" {
		in.checkRef(machine)
	}
	if volumes = in.texts("volumeUuids"); len(volumes) == 0 {
		in.mustList("volumeUuids")
	}
	for _, u := range volumes {
		in.checkRef(volumeRef("volumeUuids", u))
	}
	return machine, volumes
}

func namedRestore(err error, machine ref, volumes []string) error {
	return named(err, machine, volumeRef("volumeUuids", strings.Join(volumes, ", ")))
}
