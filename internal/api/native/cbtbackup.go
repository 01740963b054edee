package native

import (
	"context"
	"net/http"
	"path"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
)

// Backups of a CBT task: files on the hosts of its machines. A backup has the name of its
// checkpoint.

func (a *API) listBackups(c *gin.Context) error {
	t, shown, err := a.backedUp(c)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, BackupList{backupsOf(t, shown)})
}

func (a *API) getBackup(c *gin.Context) error {
	t, shown, err := a.backedUp(c)
	if err != nil {
		return err
	}
	for _, b := range backupsOf(t, shown) {
		if b.Name == c.Param("name") {
			return answer(c, http.StatusOK, b)
		}
	}
	return noBackup(t.UUID, c.Param("name"))
}

func noBackup(task, name string) error {
	return core.Errorf(core.NotFound, "the task has no backup %q; GET /cbt-tasks/%s/backups lists those it has", name, task)
}

// backedUp gives the task of a request, and whether its caller is shown where files are:
// whoever may not see exports has no business with these either.
func (a *API) backedUp(c *gin.Context) (t core.CBTTask, shown bool, err error) {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return t, false, err
	}
	ctx := c.Request.Context()
	caller, err := core.CallerFrom(ctx)
	if err != nil {
		return t, false, err
	}
	t, err = a.eng.CBTTask(ctx, uuid)
	return t, caller.Changes(t.Account), err
}

func (a *API) createBackup(c *gin.Context) error {
	var in NewBackup
	return a.transition(c, &in, func(ctx context.Context, uuid string) (core.CBTTask, error) {
		rate, err := rateOf(in.BytesPerSecond)
		if err != nil {
			return core.CBTTask{}, err
		}
		return a.eng.BackupCBTTask(ctx, uuid, engine.BackupRequest{Full: in.Full, Rate: rate})
	})
}

func rateOf(bytesPerSecond int64) (uint64, error) {
	if bytesPerSecond < 0 {
		return 0, core.InvalidField("bytesPerSecond", "bytesPerSecond is %d, it must not be negative; leave it out for no bound", bytesPerSecond)
	}
	return uint64(bytesPerSecond), nil
}

func (a *API) deleteBackup(c *gin.Context) error {
	if err := refuseIfMatch(c); err != nil {
		return err
	}
	return a.aboutBackup(c, nil, a.eng.DiscardBackup)
}

func (a *API) verifyBackup(c *gin.Context) error {
	return a.aboutBackup(c, nil, a.eng.VerifyBackup)
}

func (a *API) restoreBackup(c *gin.Context) error {
	var in RestoreBackup
	return a.aboutBackup(c, &in, func(ctx context.Context, uuid string, seq int) (core.CBTTask, error) {
		rate, err := rateOf(in.BytesPerSecond)
		if err != nil {
			return core.CBTTask{}, err
		}
		machine, err := bodyUUID("machine", in.Machine)
		if err != nil {
			return core.CBTTask{}, err
		}
		volumes, err := uuids("volumes", in.Volumes)
		if err != nil {
			return core.CBTTask{}, err
		}
		return a.eng.RestoreCBT(ctx, uuid, seq, engine.RestoreRequest{Machine: machine, Volumes: volumes, Into: in.Directory, Rate: rate})
	})
}

// aboutBackup begins what a worker has to do with a backup, once per Idempotency-Key. in
// is nil where there is no body.
func (a *API) aboutBackup(c *gin.Context, in any, begin func(ctx context.Context, uuid string, seq int) (core.CBTTask, error)) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	seq, ok := checkpointOf(uuid, c.Param("name"))
	if !ok {
		return noBackup(uuid, c.Param("name"))
	}
	if in != nil {
		if err := a.optionalBody(c, in); err != nil {
			return err
		}
	}
	ctx, err := repeatable(c, uuid+" "+c.Param("name"))
	if err != nil {
		return err
	}
	t, err := begin(ctx, uuid, seq)
	if err != nil {
		return err
	}
	return a.begun(c, t)
}

// backupsOf gives the backups that any machine of a task has, oldest first. shown says
// that the paths of files are.
func backupsOf(t core.CBTTask, shown bool) []Backup {
	found := map[int]*Backup{}
	bases := map[int]int{}
	for i, r := range t.Records {
		for _, made := range r.Backups {
			b := found[made.Seq]
			if b == nil {
				b = &Backup{Name: cbt.CheckpointName(t.UUID, made.Seq), At: made.At}
				found[made.Seq] = b
			}
			bases[made.Seq] = max(bases[made.Seq], made.Base)
			b.Base = sinceName(t.UUID, bases[made.Seq])
			b.Full, b.Fuzzy = b.Base == "", b.Fuzzy || made.Fuzzy
			b.Machines = append(b.Machines, backupMachineOf(t, i, made, shown))
			b.Complete = len(b.Machines) == len(t.Machines)
		}
	}
	numbers := make([]int, 0, len(found))
	for seq := range found {
		numbers = append(numbers, seq)
	}
	slices.Sort(numbers)
	return each(numbers, func(seq int) Backup { return *found[seq] })
}

func backupMachineOf(t core.CBTTask, i int, b cbt.Backup, shown bool) BackupMachine {
	return BackupMachine{
		Machine: t.Machines[i], Base: sinceName(t.UUID, b.Base),
		Files: each(b.Files, func(f cbt.BackupFile) BackupFile {
			out := BackupFile{Volume: f.Volume, Size: int64(f.Size), Bytes: int64(f.Bytes)}
			if shown {
				out.Path = path.Join(b.Dir, f.Name)
			}
			return out
		}),
	}
}
