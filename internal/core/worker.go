package core

import (
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// A Worker is what a worker process announces of itself.
type Worker struct {
	ID        string          `json:"id"` // of the process: another one after a restart
	Host      string          `json:"host"`
	Tags      []string        `json:"tags,omitempty"`
	Slots     int             `json:"slots"`
	Version   string          `json:"version"`
	Types     []executor.Spec `json:"types"`               // job types it executes
	Resources []string        `json:"resources,omitempty"` // uuids of the resources it reaches
	Queues    []string        `json:"queues"`
	Started   time.Time       `json:"started"`

	Seen     time.Time `json:"-"` // last heartbeat, by Redis TIME
	Live     bool      `json:"-"` // heartbeat within the timeout
	Draining bool      `json:"-"`
	Busy     int       `json:"-"` // slots in use
}

// Executes reports whether the worker has an executor for a job type.
func (w Worker) Executes(jobType string) bool {
	for _, s := range w.Types {
		if s.Type == jobType {
			return true
		}
	}
	return false
}

// Reaches reports whether the worker announced a resource.
func (w Worker) Reaches(resource string) bool { return contains(w.Resources, resource) }

// A Heartbeat is what a worker says each second.
type Heartbeat struct {
	Worker   string
	Taken    []string // ids of dispatches taken and not begun
	Running  []string // ids of dispatches whose attempt it executes
	Draining bool
	Progress map[string]Progress // of running attempts that have told it, by dispatch id
}

// A Progress says how far an attempt has come, in units of its executor's choice.
type Progress struct{ Done, Total int64 }

// A Fleet is what is known of all workers at one moment.
type Fleet struct {
	Now     time.Time                // Redis TIME of the reading
	Workers map[string]Worker        // by id, those that vanished lately included
	Held    map[string]Heartbeat     // what each said last
	Types   map[string]executor.Spec // every job type ever announced
	// Resources are all that were ever announced, and when last: a job for one that is
	// away is accepted.
	Resources map[string]time.Time
}

// HostQueue is the name of the queue that only workers on a host read.
func HostQueue(host string) string { return "host-" + host }
