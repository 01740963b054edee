package core

// StepsOf names some steps of a run.
type StepsOf struct {
	Run   *Run
	Steps []int // indexes
}

// An Outline tells of a plan which step is a job's. It is shared and never changed.
type Outline map[string]int

// A RunClass says of all steps of a run together how they ended.
type RunClass string

// Classes of runs.
const (
	RunOpen   RunClass = "w" // not every step has ended
	RunWhole  RunClass = "s" // every step succeeded
	RunNone   RunClass = "f" // no step succeeded
	RunPartly RunClass = "p" // some steps succeeded
)

// A Tally counts runs that are alike. Target, Trigger and Plan are told only where
// the runs of some targets or triggers were counted.
type Tally struct {
	Account string
	Dialect Dialect
	Type    string
	Class   RunClass
	Target  Target
	Trigger string
	Plan    string

	Runs, Steps, Succeeded int64 // Steps and Succeeded are those of all these runs
}
