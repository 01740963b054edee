package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// CreateJob creates a job.
func (c *Client) CreateJob(ctx context.Context, n NewJob) (Job, error) {
	var j Job
	err := c.call(ctx, request{"POST", "/jobs", n, nil}, &j)
	return j, err
}

// Job gives a job. Its secret parameters are "***".
func (c *Client) Job(ctx context.Context, uuid string) (Job, error) {
	var j Job
	err := c.call(ctx, request{method: "GET", path: "/jobs/" + url.PathEscape(uuid)}, &j)
	return j, err
}

// PatchJob changes a job by a JSON merge patch: a map, say, in which nil puts a
// field back to its default. A version other than 0 is the one the change is
// meant for; the Problem has status 412 when it is not the job's any more.
func (c *Client) PatchJob(ctx context.Context, uuid string, version int64, patch any) (Job, error) {
	var j Job
	err := c.call(ctx, request{"PATCH", "/jobs/" + url.PathEscape(uuid), patch, ifMatch(version)}, &j)
	return j, err
}

// DeleteJob deletes a job.
func (c *Client) DeleteJob(ctx context.Context, uuid string) error {
	return c.call(ctx, request{method: "DELETE", path: "/jobs/" + url.PathEscape(uuid)}, nil)
}

// CreateGroup creates a group without jobs.
func (c *Client) CreateGroup(ctx context.Context, n NewGroup) (Group, error) {
	var g Group
	err := c.call(ctx, request{"POST", "/groups", n, nil}, &g)
	return g, err
}

// Group gives a group with its jobs.
func (c *Client) Group(ctx context.Context, uuid string) (Group, error) {
	var g Group
	err := c.call(ctx, request{method: "GET", path: "/groups/" + url.PathEscape(uuid)}, &g)
	return g, err
}

// PatchGroup changes a group as PatchJob does a job.
func (c *Client) PatchGroup(ctx context.Context, uuid string, version int64, patch any) (Group, error) {
	var g Group
	err := c.call(ctx, request{"PATCH", "/groups/" + url.PathEscape(uuid), patch, ifMatch(version)}, &g)
	return g, err
}

// AddJobs puts jobs into a group, all or none.
func (c *Client) AddJobs(ctx context.Context, group string, jobs ...string) (Group, error) {
	var g Group
	err := c.call(ctx, request{"POST", "/groups/" + url.PathEscape(group) + "/jobs", addJobs{jobs}, nil}, &g)
	return g, err
}

// RemoveJob takes a job out of a group.
func (c *Client) RemoveJob(ctx context.Context, group, job string) error {
	return c.call(ctx, request{method: "DELETE", path: "/groups/" + url.PathEscape(group) + "/jobs/" + url.PathEscape(job)}, nil)
}

// DeleteGroup deletes a group; its jobs stay.
func (c *Client) DeleteGroup(ctx context.Context, uuid string) error {
	return c.call(ctx, request{method: "DELETE", path: "/groups/" + url.PathEscape(uuid)}, nil)
}

// CreateTrigger creates a trigger without targets.
func (c *Client) CreateTrigger(ctx context.Context, n NewTrigger) (Trigger, error) {
	var t Trigger
	err := c.call(ctx, request{"POST", "/triggers", n, nil}, &t)
	return t, err
}

// Trigger gives a trigger with its targets and its next slot.
func (c *Client) Trigger(ctx context.Context, uuid string) (Trigger, error) {
	var t Trigger
	err := c.call(ctx, request{method: "GET", path: "/triggers/" + url.PathEscape(uuid)}, &t)
	return t, err
}

// PatchTrigger changes a trigger as PatchJob does a job.
func (c *Client) PatchTrigger(ctx context.Context, uuid string, version int64, patch any) (Trigger, error) {
	var t Trigger
	err := c.call(ctx, request{"PATCH", "/triggers/" + url.PathEscape(uuid), patch, ifMatch(version)}, &t)
	return t, err
}

// DeleteTrigger deletes a trigger; its ledger stays readable.
func (c *Client) DeleteTrigger(ctx context.Context, uuid string) error {
	return c.call(ctx, request{method: "DELETE", path: "/triggers/" + url.PathEscape(uuid)}, nil)
}

// Bind lets a trigger fire a group or a job.
func (c *Client) Bind(ctx context.Context, trigger string, n NewBinding) (Binding, error) {
	var b Binding
	err := c.call(ctx, request{"POST", "/triggers/" + url.PathEscape(trigger) + "/targets", n, nil}, &b)
	return b, err
}

// Unbind frees a target from a trigger.
func (c *Client) Unbind(ctx context.Context, trigger, target string) error {
	return c.call(ctx, request{method: "DELETE", path: "/triggers/" + url.PathEscape(trigger) + "/targets/" + url.PathEscape(target)}, nil)
}

func ifMatch(version int64) http.Header {
	if version == 0 {
		return nil
	}
	return http.Header{"If-Match": {`"` + strconv.FormatInt(version, 10) + `"`}}
}
