package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// CreateCBTTask creates a task that tracks the changed blocks of machines.
func (c *Client) CreateCBTTask(ctx context.Context, n NewCBTTask) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"POST", "/cbt-tasks", n, nil}, &t)
	return t, err
}

// CBTTask gives a task, with what can be read while a session is open.
func (c *Client) CBTTask(ctx context.Context, uuid string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{method: "GET", path: cbtPath(uuid)}, &t)
	return t, err
}

func cbtPath(uuid string) string { return "/cbt-tasks/" + url.PathEscape(uuid) }

// CBTFilter selects tasks. Zero fields select all.
type CBTFilter struct {
	Name    string // part of it
	Status  CBTStatus
	Machine string
}

// CBTTasks gives tasks, newest first, page by page as they are asked for. It ends
// with the first error.
func (c *Client) CBTTasks(ctx context.Context, f CBTFilter) iter.Seq2[CBTTask, error] {
	return func(yield func(CBTTask, error) bool) {
		q := url.Values{}
		for name, value := range map[string]string{"name": f.Name, "status": string(f.Status), "machine": f.Machine} {
			if value != "" {
				q.Set(name, value)
			}
		}
		for {
			var page cbtTaskList
			if err := c.call(ctx, request{method: "GET", path: "/cbt-tasks?" + q.Encode()}, &page); err != nil {
				yield(CBTTask{}, err)
				return
			}
			for _, t := range page.Items {
				if !yield(t, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}

// PatchCBTTask changes the name or the description of a task as PatchJob changes a
// job.
func (c *Client) PatchCBTTask(ctx context.Context, uuid string, version int64, patch any) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"PATCH", cbtPath(uuid), patch, ifMatch(version)}, &t)
	return t, err
}

// EnableCBTTask begins a session: a moment of all disks that can be read. since is
// a checkpoint, or "" for a full copy; key is that of RunOptions, or "". WaitCBTTask
// tells when it can be read.
func (c *Client) EnableCBTTask(ctx context.Context, uuid, since, key string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"POST", cbtPath(uuid) + "/enable", cbtEnable{since}, withKey(key)}, &t)
	return t, err
}

// DisableCBTTask ends the session, or cancels what is Starting. Force cuts readers off and
// does not wait for workers: the task is Stopped at once, but WaitCBTTask waits until they
// have closed what was open.
func (c *Client) DisableCBTTask(ctx context.Context, uuid string, force bool, key string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{"POST", cbtPath(uuid) + "/disable", cbtDisable{force}, withKey(key)}, &t)
	return t, err
}

// DeleteCBTTask deletes a task and what it made on the hosts but backups. done is false
// while a worker does that: WaitCBTTask then ends with a Problem of status 404. Force ends
// what is under way first.
func (c *Client) DeleteCBTTask(ctx context.Context, uuid string, force bool) (done bool, err error) {
	return c.deleteCBT(ctx, uuid, url.Values{"force": {strconv.FormatBool(force)}})
}

// DeleteCBTTaskAndBackups is DeleteCBTTask, and deletes the files of its backups too.
func (c *Client) DeleteCBTTaskAndBackups(ctx context.Context, uuid string, force bool) (done bool, err error) {
	return c.deleteCBT(ctx, uuid, url.Values{"force": {strconv.FormatBool(force)}, "backups": {"true"}})
}

func (c *Client) deleteCBT(ctx context.Context, uuid string, how url.Values) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := c.open(ctx, request{method: "DELETE", path: cbtPath(uuid) + "?" + how.Encode()})
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusNoContent, nil
}

// WaitCBTTask waits until nothing is under way with a task and gives it. Whether it
// went well is in its Status and Reason.
func (c *Client) WaitCBTTask(ctx context.Context, uuid string) (CBTTask, error) {
	failures := 0
	for look := shortestLook; ; look = min(2*look, longestLook) {
		t, err := c.CBTTask(ctx, uuid)
		switch {
		case err == nil && t.Operation == "":
			return t, nil
		case err == nil:
			failures = 0
		default:
			failures++
			wait, ok := passing(err)
			if !ok && !away(err) || failures > resumeTries {
				return t, err
			}
			look = max(look, wait)
		}
		if err := sleep(ctx, look); err != nil {
			return t, err
		}
	}
}

// Checkpoints gives the checkpoints of a task, oldest first.
func (c *Client) Checkpoints(ctx context.Context, uuid string) ([]Checkpoint, error) {
	var l checkpointList
	err := c.call(ctx, request{method: "GET", path: cbtPath(uuid) + "/checkpoints"}, &l)
	return l.Items, err
}

// ForgetCheckpoint takes a checkpoint out of a task; what was written after it is
// counted from the one before it.
func (c *Client) ForgetCheckpoint(ctx context.Context, uuid, name string) (CBTTask, error) {
	var t CBTTask
	err := c.call(ctx, request{method: "DELETE", path: cbtPath(uuid) + "/checkpoints/" + url.PathEscape(name)}, &t)
	return t, err
}

// ChangesOf says which changes are asked for. The zero From is what is allocated
// now; the zero To is now.
type ChangesOf struct {
	Volume   string
	From, To string // checkpoints
	Offset   int64  // where to begin
	Page     int    // extents of a page; 0 = the server's 1000
}

// Changes gives what was written to a volume, by rising offset and without overlap,
// page by page as it is asked for. It ends with the first error; to go on, ask again
// with the end of the last extent as Offset.
func (c *Client) Changes(ctx context.Context, uuid string, of ChangesOf) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for {
			page, err := c.ChangesPage(ctx, uuid, of)
			if err != nil {
				yield(Extent{}, err)
				return
			}
			for _, e := range page.Extents {
				if !yield(e, nil) {
					return
				}
			}
			if page.NextOffset == 0 {
				return
			}
			of.Offset = page.NextOffset
		}
	}
}

// ChangesPage gives one page of Changes.
func (c *Client) ChangesPage(ctx context.Context, uuid string, of ChangesOf) (Changes, error) {
	q := url.Values{"volume": {of.Volume}, "startingOffset": {strconv.FormatInt(of.Offset, 10)}}
	if of.From != "" {
		q.Set("from", of.From)
	}
	if of.To != "" {
		q.Set("to", of.To)
	}
	if of.Page > 0 {
		q.Set("maxResults", strconv.Itoa(of.Page))
	}
	var page Changes
	err := c.call(ctx, request{method: "GET", path: cbtPath(uuid) + "/changes?" + q.Encode()}, &page)
	return page, err
}

// EstimateCBT says of each machine how much was written since its last checkpoint.
func (c *Client) EstimateCBT(ctx context.Context, uuid string) ([]Estimate, error) {
	var l estimateList
	err := c.call(ctx, request{method: "GET", path: cbtPath(uuid) + "/estimate"}, &l)
	return l.Items, err
}
