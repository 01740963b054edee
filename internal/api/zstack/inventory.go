package zstack

import (
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// The inventories as ZStack's SDKs know them. The order of fields is the
// documentation's. A query may name any of them.

const classPrefix = "org.zstack.header.scheduler."

const (
	groupClass      = classPrefix + "SchedulerJobGroupInventory"
	jobClass        = classPrefix + "SchedulerJobInventory"
	triggerClass    = classPrefix + "SchedulerTriggerInventory"
	historyClass    = classPrefix + "SchedulerJobHistoryInventory"
	groupJobClass   = classPrefix + "SchedulerJobGroupJobRefInventory"
	groupTieClass   = classPrefix + "SchedulerJobGroupSchedulerTriggerRefInventory"
	jobTriggerClass = classPrefix + "SchedulerJobSchedulerTriggerInventory"
)

type groupInventory struct {
	UUID         string   `json:"uuid"`
	Name         string   `json:"name"`
	Description  nullable `json:"description"`
	State        string   `json:"state"`
	JobType      string   `json:"jobType"`
	JobData      string   `json:"jobData"` // the parameters as JSON
	TriggersUUID []string `json:"triggersUuid"`
	JobsUUID     []string `json:"jobsUuid"`
	CreateDate   stamp    `json:"createDate"`
	LastOpDate   stamp    `json:"lastOpDate"`
}

// A createdGroup is the answer to CreateSchedulerJobGroup, which ZStack
// documents as a job's inventory.
type createdGroup struct {
	groupInventory
	TargetResourceUUID nullable `json:"targetResourceUuid"`
}

type jobInventory struct {
	UUID                   string   `json:"uuid"`
	Name                   string   `json:"name"`
	Description            nullable `json:"description"`
	TargetResourceUUID     nullable `json:"targetResourceUuid"`
	State                  string   `json:"state"`
	JobData                string   `json:"jobData"`
	JobClassName           string   `json:"jobClassName"`
	TriggersUUID           []string `json:"triggersUuid"` // its own, not its group's
	SchedulerJobGroupUUIDs []string `json:"schedulerJobGroupUuids"`
	CreateDate             stamp    `json:"createDate"`
	LastOpDate             stamp    `json:"lastOpDate"`
}

type triggerInventory struct {
	UUID              string   `json:"uuid"`
	Name              string   `json:"name"`
	Description       nullable `json:"description"`
	SchedulerType     string   `json:"schedulerType"`
	Cron              nullable `json:"cron"`
	SchedulerInterval *int64   `json:"schedulerInterval"` // seconds
	RepeatCount       *int64   `json:"repeatCount"`
	StartTime         stamp    `json:"startTime"`
	StopTime          stamp    `json:"stopTime"`
	JobsUUID          []string `json:"jobsUuid"`
	JobGroupsUUID     []string `json:"jobGroupsUuid"`
	CreateDate        stamp    `json:"createDate"`
	LastOpDate        stamp    `json:"lastOpDate"`
}

type jobTriggerInventory struct {
	UUID                 string `json:"uuid"`
	SchedulerJobUUID     string `json:"schedulerJobUuid"`
	SchedulerTriggerUUID string `json:"schedulerTriggerUuid"`
	CreateDate           stamp  `json:"createDate"`
	LastOpDate           stamp  `json:"lastOpDate"`
}

type groupTriggerInventory struct {
	SchedulerJobGroupUUID string `json:"schedulerJobGroupUuid"`
	SchedulerTriggerUUID  string `json:"schedulerTriggerUuid"`
	CreateDate            stamp  `json:"createDate"`
	LastOpDate            stamp  `json:"lastOpDate"`
}

type groupJobInventory struct {
	SchedulerJobGroupUUID string `json:"schedulerJobGroupUuid"`
	SchedulerJobUUID      string `json:"schedulerJobUuid"`
	CreateDate            stamp  `json:"createDate"`
	LastOpDate            stamp  `json:"lastOpDate"`
}

type historyInventory struct {
	ID                    int64    `json:"id"`
	TriggerUUID           nullable `json:"triggerUuid"`
	SchedulerJobUUID      string   `json:"schedulerJobUuid"`
	SchedulerJobGroupUUID nullable `json:"schedulerJobGroupUuid"`
	JobType               string   `json:"jobType"`
	StartTime             stamp    `json:"startTime"`
	ExecuteTime           *int64   `json:"executeTime"` // seconds, rounded up; null until the job has ended
	TargetResourceUUID    nullable `json:"targetResourceUuid"`
	RequestDump           string   `json:"requestDump"`
	ResultDump            nullable `json:"resultDump"`
	Success               bool     `json:"success"`
	FireInstanceID        string   `json:"fireInstanceId"` // the run's; shared by the jobs of one fire
}

func state(enabled bool) string {
	if enabled {
		return "Enabled"
	}
	return "Disabled"
}

// list gives a list that is [] and not null in JSON.
func list(uuids []string) []string {
	if uuids == nil {
		return []string{}
	}
	return uuids
}

func (a *API) groupInventory(g core.Group, bound []string, types jobTypes) groupInventory {
	members := make([]string, len(g.Members))
	for i, m := range g.Members {
		members[i] = m.Job
	}
	return groupInventory{
		UUID: g.UUID, Name: g.Name, Description: nullable(g.Description), State: state(g.Enabled), JobType: g.Type,
		JobData:      string(encode(types.shown(g.Type, g.Parameters))),
		TriggersUUID: list(bound), JobsUUID: members, CreateDate: a.stamp(g.Created), LastOpDate: a.stamp(g.Updated),
	}
}

func (a *API) jobInventory(j core.Job, bound []string, types jobTypes) jobInventory {
	data := map[string]any{"name": j.Name, "targetResourceUuid": j.Target}
	for k, v := range types.shown(j.Type, j.Parameters) {
		data[k] = v
	}
	in := []string{}
	if j.Group != "" {
		in = append(in, j.Group)
	}
	return jobInventory{
		UUID: j.UUID, Name: j.Name, Description: nullable(j.Description), TargetResourceUUID: nullable(j.Target),
		State: state(j.Enabled), JobData: string(encode(data)), JobClassName: j.Type, TriggersUUID: list(bound),
		SchedulerJobGroupUUIDs: in, CreateDate: a.stamp(j.Created), LastOpDate: a.stamp(j.Updated),
	}
}

func (a *API) triggerInventory(t core.Trigger) triggerInventory {
	s := t.Schedule
	v := triggerInventory{
		UUID: t.UUID, Name: t.Name, Description: nullable(t.Description), SchedulerType: string(s.Kind), Cron: nullable(s.Expression),
		StartTime: a.stamp(s.Start), StopTime: a.stamp(stopTime(s)), JobsUUID: []string{}, JobGroupsUUID: []string{},
		CreateDate: a.stamp(t.Created), LastOpDate: a.stamp(t.Updated),
	}
	if s.Kind == schedule.Simple {
		interval, repeat := int64(s.Interval.Seconds()), int64(s.Repeat)
		v.SchedulerInterval, v.RepeatCount = &interval, &repeat
	}
	for _, b := range t.Targets {
		if b.Kind == core.GroupTarget {
			v.JobGroupsUUID = append(v.JobGroupsUUID, b.UUID)
		} else {
			v.JobsUUID = append(v.JobsUUID, b.UUID)
		}
	}
	return v
}
