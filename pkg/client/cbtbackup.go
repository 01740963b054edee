package client

import (
	"context"
	"net/url"
	"time"
)

// NewBackup asks for a backup. The zero value is incremental where it can be, and as fast
// as it can be.
type NewBackup struct {
	Full           bool  `json:"full,omitempty"`           // based on no other
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // that are copied of each machine, at most; absent = no bound
}

// Backup is a moment of a task's machines in files on their hosts.
type Backup struct {
	Name     string          `json:"name"`           // of its checkpoint
	At       time.Time       `json:"at"`             // by the clock of the machine's host
	Full     bool            `json:"full"`           // of every machine
	Base     string          `json:"base,omitempty"` // the youngest backup that it holds the changes since
	Fuzzy    bool            `json:"fuzzy"`          // a disk was written while it was read: not one moment
	Complete bool            `json:"complete"`       // of all machines of the task
	Machines []BackupMachine `json:"machines"`
}

// BackupMachine is what a backup has of a machine.
type BackupMachine struct {
	Machine string       `json:"machine"`
	Base    string       `json:"base,omitempty"` // absent: the copy of this machine is full
	Files   []BackupFile `json:"files"`
}

// BackupFile is one disk of a backup: a qcow2 image that has the older ones as its backing
// files.
type BackupFile struct {
	Volume string `json:"volume"`
	Path   string `json:"path,omitempty"` // on the machine's host; absent for whoever may not change the task
	Size   int64  `json:"size"`           // of the disk
	Bytes  int64  `json:"bytes"`          // that were copied
}

// backupList holds the backups of a task, oldest first.
type backupList struct {
	Items []Backup `json:"items"`
}

// RestoreOf says where a backup is written to.
type RestoreOf struct {
	Machine        string   `json:"machine,omitempty"`        // absent of a task with one machine
	Volumes        []string `json:"volumes,omitempty"`        // absent = all of the backup
	Directory      string   `json:"directory,omitempty"`      // on the machine's host, for new raw files; absent = the volumes themselves
	BytesPerSecond int64    `json:"bytesPerSecond,omitempty"` // absent = no bound
}

// CreateBackup begins to copy a moment of all disks of a task into files on their hosts.
// key is that of RunOptions, or "". WaitCBTTask tells when it has ended: Stopped, or
// Failed and why.
func (c *Client) CreateBackup(ctx context.Context, uuid string, n NewBackup, key string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"POST", backupsPath(uuid), n, withKey(key)}, &t)
	return t, err
}

func backupsPath(uuid string) string { return cbtPath(uuid) + "/backups" }

func backupPath(uuid, name string) string { return backupsPath(uuid) + "/" + url.PathEscape(name) }

// Backups gives the backups of a task, oldest first.
func (c *Client) Backups(ctx context.Context, uuid string) ([]Backup, error) {
	var l backupList
	err := c.call(ctx, request{method: "GET", path: backupsPath(uuid)}, &l)
	return l.Items, err
}

// Backup gives one backup of a task.
func (c *Client) Backup(ctx context.Context, uuid, name string) (Backup, error) {
	var b Backup
	err := c.call(ctx, request{method: "GET", path: backupPath(uuid, name)}, &b)
	return b, err
}

// RestoreBackup begins to write disks of a machine as a backup has them. When it has
// ended, the task's Run tells how.
func (c *Client) RestoreBackup(ctx context.Context, uuid, name string, of RestoreOf, key string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"POST", backupPath(uuid, name) + "/restore", of, withKey(key)}, &t)
	return t, err
}

// VerifyBackup begins to compare the files of a backup, and those that it is based on,
// with their digests. When it has ended, the task's Run tells how, and its Reason what is
// wrong.
func (c *Client) VerifyBackup(ctx context.Context, uuid, name, key string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"POST", backupPath(uuid, name) + "/verify", nil, withKey(key)}, &t)
	return t, err
}

// DeleteBackup begins to delete a backup that no other is based on.
func (c *Client) DeleteBackup(ctx context.Context, uuid, name string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{method: "DELETE", path: backupPath(uuid, name)}, &t)
	return t, err
}
