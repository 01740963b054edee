package zstack

import (
	"cmp"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// complete fills in what a step tells.
func complete(v *historyInventory, r *core.Run, st core.Step, types jobTypes) {
	v.SchedulerJobUUID, v.TargetResourceUUID = st.Job, nullable(st.Target)
	v.Success = st.State == core.StepSucceeded
	v.RequestDump = string(encode(requestDump{st.Job, st.Name, st.Type, st.Target, types.shown(st.Type, st.Parameters)}))
	if !st.State.Ended() {
		return
	}
	if st.Ended.IsZero() { // its run was canceled before the step was made
		st.Ended = r.Ended
	}
	seconds := wholeSeconds(st.Ended.Sub(begun(st)))
	v.ExecuteTime = &seconds
	v.ResultDump = nullable(encode(result(r, st)))
}

// begun is when the first attempt of a step began, or when the step ended
// without any.
func begun(st core.Step) time.Time {
	for _, a := range st.Attempts {
		if !a.Started.IsZero() {
			return a.Started
		}
	}
	return st.Ended
}

type requestDump struct {
	SchedulerJobUUID   string            `json:"schedulerJobUuid"`
	Name               string            `json:"name"`
	JobType            string            `json:"jobType"`
	TargetResourceUUID string            `json:"targetResourceUuid,omitempty"`
	Parameters         map[string]string `json:"parameters"`
}

type resultDump struct {
	APIID       string     `json:"apiId"`
	Success     bool       `json:"success"`
	ID          string     `json:"id"`
	CreatedTime int64      `json:"createdTime"` // ms
	Output      string     `json:"output,omitempty"`
	Error       *errorCode `json:"error,omitempty"`
}

func result(r *core.Run, st core.Step) resultDump {
	d := resultDump{
		APIID: r.ID, Success: st.State == core.StepSucceeded, ID: core.Dispatch{Run: r.ID, Step: st.Index}.Key(), CreatedTime: st.Ended.UnixMilli(),
	}
	if n := len(st.Attempts); n > 0 {
		d.Output = st.Attempts[n-1].Output
	}
	if d.Success {
		return d
	}
	code := codeOperation
	if st.State == core.StepTimedOut {
		code = codeTimeout
	}
	d.Error = &errorCode{code, descriptions[code], cmp.Or(st.Reason, endText[st.State])}
	return d
}

// endText says how a step ended that gave no reason.
var endText = map[core.StepState]string{
	core.StepFailed:   "the job failed",
	core.StepCanceled: "the job was canceled",
	core.StepTimedOut: "the job did not end within its timeout",
	core.StepSkipped:  core.SkipText,
}
