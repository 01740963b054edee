package native

import (
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// The wire types of changed block tracking. What types.go says holds here too;
// sizes and offsets are in bytes.

// CBTFields are the fields of a CBT task that PATCH changes.
type CBTFields struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// NewCBTTask creates a task that tracks machines.
type NewCBTTask struct {
	UUID string `json:"uuid,omitempty"`
	CBTFields
	TaskType string   `json:"taskType,omitempty"` // absent = VM
	Machines []string `json:"machines"`
	Driver   string   `json:"driver,omitempty"`   // absent = auto
	OnBroken string   `json:"onBroken,omitempty"` // absent = full
}

// CBTTask tracks the changed blocks of machines.
type CBTTask struct {
	Meta
	CBTFields
	TaskType   string         `json:"taskType"`
	Driver     string         `json:"driver"`
	OnBroken   string         `json:"onBroken"`
	Status     core.CBTStatus `json:"status"`
	Reason     string         `json:"reason,omitempty"`     // why it failed last
	Operation  core.CBTOp     `json:"operation,omitempty"`  // what is under way
	Run        string         `json:"run,omitempty"`        // the run of that, or else of what was last
	Checkpoint string         `json:"checkpoint,omitempty"` // the youngest that all machines have
	Machines   []CBTMachine   `json:"machines"`
}

// CBTTaskList is a page of tasks, newest first.
type CBTTaskList struct {
	Items []CBTTask `json:"items"`
	Next  string    `json:"next,omitempty"`
}

// CBTMachine is what is known of a machine of a task.
type CBTMachine struct {
	UUID     string      `json:"uuid"`
	Driver   string      `json:"driver,omitempty"` // that made its checkpoints
	Block    int64       `json:"block,omitempty"`  // granularity
	Broken   string      `json:"broken,omitempty"` // why its chain was begun anew last
	BrokenAt time.Time   `json:"brokenAt,omitzero"`
	Volumes  []CBTVolume `json:"volumes"`           // as of the last operation
	Session  *CBTSession `json:"session,omitempty"` // the moment that can be read
}

// CBTVolume is a disk of a machine.
type CBTVolume struct {
	UUID   string `json:"uuid"`
	Path   string `json:"path"`
	Format string `json:"format"`
	Size   int64  `json:"size"`
}

// CBTSession is a moment of a machine that is exported over NBD.
type CBTSession struct {
	Checkpoint string      `json:"checkpoint"`      // that begins at the moment
	Since      string      `json:"since,omitempty"` // the checkpoint that changes are counted from; absent for a full copy
	At         time.Time   `json:"at"`
	Fuzzy      bool        `json:"fuzzy"`   // it was written while it was read: not one moment
	Exports    []CBTExport `json:"exports"` // empty for whoever may not change the task
}

// CBTExport is a volume as of a session's moment, read-only.
type CBTExport struct {
	Volume  string `json:"volume"`
	URI     string `json:"uri"`
	Size    int64  `json:"size"`
	Mode    string `json:"mode"`              // full or incremental
	Context string `json:"context,omitempty"` // NBD meta context whose bit 0 marks what changed
	Changed *int64 `json:"changed,omitempty"` // to be read; absent when it is not known
	Bitmap  string `json:"bitmap,omitempty"`  // base64 of zlib of a JSON object of start to length; absent when long
}

// CBTEnable begins a session.
type CBTEnable struct {
	Since string `json:"since,omitempty"` // a checkpoint; absent = a full copy
}

// CBTDisable ends a session.
type CBTDisable struct {
	Force bool `json:"force,omitempty"` // cut readers off, and do not wait for workers
}

// Checkpoint is a moment from which on changes are recorded.
type Checkpoint struct {
	Name     string    `json:"name"`
	At       time.Time `json:"at"`       // by the clock of the machine's host
	Machines []string  `json:"machines"` // that have it
	Complete bool      `json:"complete"` // all machines of the task have it
	Fuzzy    bool      `json:"fuzzy"`
	Changed  int64     `json:"changed"` // written between the checkpoint before it and it, in whole blocks
}

// CheckpointList holds the checkpoints of a task, oldest first.
type CheckpointList struct {
	Items []Checkpoint `json:"items"`
}

// Changes is a page of what was written to a volume, by rising offset and
// without overlap.
type Changes struct {
	Volume     string   `json:"volume"`
	Size       int64    `json:"size"`
	Block      int64    `json:"block"`
	From       string   `json:"from,omitempty"`
	To         string   `json:"to,omitempty"`
	Extents    []Extent `json:"extents"`
	NextOffset int64    `json:"nextOffset,omitempty"` // startingOffset of the next page; absent at the end
}

// Extent is a stretch of a volume.
type Extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
	Zero   bool  `json:"zero,omitempty"` // it reads as zeros
}

// EstimateList says of each machine how much was written since its last
// checkpoint.
type EstimateList struct {
	Items []Estimate `json:"items"`
}

// Estimate is what was found when a machine was looked at.
type Estimate struct {
	Machine string           `json:"machine"`
	Running bool             `json:"running"`          // its process answers
	InUse   bool             `json:"inUse"`            // an image is open for writing
	Session bool             `json:"session"`          // its session lives
	Broken  string           `json:"broken,omitempty"` // why the chain cannot be continued
	Volumes []VolumeEstimate `json:"volumes"`
}

// VolumeEstimate says how much of a volume was written.
type VolumeEstimate struct {
	Volume  string `json:"volume"`
	Size    int64  `json:"size"`
	Changed *int64 `json:"changed,omitempty"` // absent when it was not counted
}
