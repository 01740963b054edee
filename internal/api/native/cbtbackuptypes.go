package native

import "time"

// The wire types of backups of CBT tasks. What cbttypes.go says holds here too.

// NewBackup asks for a backup.
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

// BackupList holds the backups of a task, oldest first.
type BackupList struct {
	Items []Backup `json:"items"`
}

// RestoreBackup says where a backup is written to.
type RestoreBackup struct {
	Machine        string   `json:"machine,omitempty"`        // absent of a task with one machine
	Volumes        []string `json:"volumes,omitempty"`        // absent = all of the backup
	Directory      string   `json:"directory,omitempty"`      // on the machine's host, for new raw files; absent = the volumes themselves
	BytesPerSecond int64    `json:"bytesPerSecond,omitempty"` // absent = no bound
}
