package zstack

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// query serves Query calls of a noun, with and without a uuid in the path. The
// answer to a uuid is a list as well, empty when there is none: the Go SDK takes
// that, and not 404, for "not found". always are conditions of the path itself.
func (a *API) query(n noun, always ...condition) gin.HandlerFunc {
	return func(c *gin.Context) {
		an, err := a.ask(c, n, always)
		if err != nil {
			a.refuse(c, err)
			return
		}
		if an.warning != "" {
			c.Header("Warning", `199 takt "`+strings.ReplaceAll(an.warning, `"`, "'")+`"`)
		}
		// Queries carry the schema always.
		writeJSON(c, http.StatusOK, an.encode(true))
	}
}

// parameters checks the header of a GET call and gives its query string.
func parameters(c *gin.Context) (url.Values, error) {
	if _, err := authorization(c.Request.Header); err != nil {
		return nil, err
	}
	if err := checkJobUUID(c.GetHeader("X-Job-UUID")); err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query string cannot be read: %v", err)
	}
	return values, nil
}

// reader gives the context of a GET call's caller.
func (a *API) reader(c *gin.Context) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), a.opts.SyncWait)
	session, err := authorization(c.Request.Header)
	if err != nil {
		return ctx, cancel, err
	}
	caller, _, err := a.auth.Validate(ctx, session)
	return core.WithCaller(ctx, caller), cancel, err
}

func (a *API) ask(c *gin.Context, n noun, always []condition) (answer, error) {
	values, err := parameters(c)
	if err != nil {
		return answer{}, err
	}
	q, err := parseQuery(values)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel, err := a.reader(c)
	defer cancel()
	if err != nil {
		return answer{}, err
	}
	q.conditions = append(q.conditions, always...)
	if uuid := c.Param("uuid"); uuid != "" {
		if placeholder(uuid) {
			return answer{}, badArgument("field[uuid] is not a valid uuid: [%s]", uuid)
		}
		q.conditions = append(q.conditions, condition{field: "uuid", op: equal, value: uuid})
	}
	q = classes[n].flat(q)
	if err := classes[n].check(q); err != nil {
		return answer{}, err
	}
	if n == history {
		return a.queryHistory(ctx, q)
	}
	return a.queryDefinitions(ctx, n, q)
}

// queryDefinitions answers a query for groups, jobs or triggers.
func (a *API) queryDefinitions(ctx context.Context, n noun, q query) (answer, error) {
	all, err := a.inventories(ctx, n, q.exactly("uuid"))
	if err != nil {
		return answer{}, err
	}
	found, err := a.filter(ctx, n, q, all)
	if err != nil {
		return answer{}, err
	}
	if q.sort != "" {
		slices.SortStableFunc(found, classes[n].order(q))
	}
	an := q.page(classes[n], found)
	an.success = n == cbtTasks // as the pages of newer calls have it
	return an, nil
}

// exactly gives the value that a field must have by q, or "".
func (q query) exactly(field string) string {
	for _, c := range q.conditions {
		if c.hop == "" && c.field == field && c.op == equal {
			return c.value
		}
	}
	return ""
}

// page cuts what was found to what is asked for.
func (q query) page(c class, found []any) answer {
	total := len(found)
	if q.count {
		return answer{total: &total}
	}
	rows := q.cut(found)
	out := make([]any, len(rows))
	for i, x := range rows {
		out[i] = c.pick(q, x)
	}
	an := many(c.name, out)
	if q.withTotal {
		an.total = &total
	}
	return an
}

func (q query) cut(found []any) []any {
	from := min(q.start, len(found))
	return found[from : from+min(q.limit, len(found)-from)]
}

// filter gives the inventories that pass every condition. Related inventories are
// read once for each noun that a condition leads to.
func (a *API) filter(ctx context.Context, n noun, q query, all []any) ([]any, error) {
	related := map[noun]map[string]any{}
	for _, c := range q.conditions {
		t, err := c.compile(columnOf(n, c), a.opts.Zone)
		if err != nil {
			return nil, err
		}
		if c.hop == "" {
			all = slices.DeleteFunc(all, func(x any) bool { return !t.holds(x) })
			continue
		}
		h := classes[n].hops[c.hop]
		if related[h.to] == nil {
			if related[h.to], err = a.byUUID(ctx, h.to); err != nil {
				return nil, err
			}
		}
		via := classes[n].columns[h.via]
		all = slices.DeleteFunc(all, func(x any) bool {
			var values []any
			for _, uuid := range via.value(x).([]string) {
				if other, ok := related[h.to][uuid]; ok {
					values = append(values, t.column.value(other))
				}
			}
			return !t.holdsAny(values)
		})
	}
	return all, nil
}

func columnOf(n noun, c condition) column {
	if c.hop != "" {
		n = classes[n].hops[c.hop].to
	}
	return classes[n].columns[c.field]
}

func (a *API) byUUID(ctx context.Context, n noun) (map[string]any, error) {
	all, err := a.inventories(ctx, n, "")
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(all))
	for _, x := range all {
		out[classes[n].columns["uuid"].value(x).(string)] = x
	}
	return out, nil
}

// inventories gives all of a noun that the caller may see, oldest first, or only
// the one with a uuid.
func (a *API) inventories(ctx context.Context, n noun, uuid string) ([]any, error) {
	uuid = strings.ToLower(uuid)
	if uuid != "" && !id.Valid(uuid) {
		return nil, nil
	}
	switch n {
	case groups:
		return a.groups(ctx, uuid)
	case jobs:
		return a.jobs(ctx, uuid)
	case keys:
		return a.accessKeys(ctx, uuid)
	case cbtTasks:
		return a.cbtTasks(ctx, uuid)
	default:
		return a.triggers(ctx, uuid)
	}
}

func (a *API) groups(ctx context.Context, uuid string) ([]any, error) {
	all, err := read(ctx, uuid, a.eng.Group, a.eng.Groups)
	if err != nil {
		return nil, err
	}
	types, err := a.types(ctx)
	if err != nil {
		return nil, err
	}
	bound, err := a.bound(ctx, oldestFirst(all, func(g core.Group) core.Meta { return g.Meta }))
	out := make([]any, len(all))
	for i, g := range all {
		out[i] = a.groupInventory(g, bound[g.UUID], types)
	}
	return out, err
}

func (a *API) jobs(ctx context.Context, uuid string) ([]any, error) {
	all, err := read(ctx, uuid, a.eng.Job, a.eng.Jobs)
	if err != nil {
		return nil, err
	}
	types, err := a.types(ctx)
	if err != nil {
		return nil, err
	}
	bound, err := a.bound(ctx, oldestFirst(all, func(j core.Job) core.Meta { return j.Meta }))
	out := make([]any, len(all))
	for i, j := range all {
		out[i] = a.jobInventory(j, bound[j.UUID], types)
	}
	return out, err
}

func (a *API) triggers(ctx context.Context, uuid string) ([]any, error) {
	all, err := read(ctx, uuid, a.eng.Trigger, a.eng.Triggers)
	if err != nil {
		return nil, err
	}
	oldestFirst(all, func(t core.Trigger) core.Meta { return t.Meta })
	out := make([]any, len(all))
	for i, t := range all {
		out[i] = a.triggerInventory(t)
	}
	return out, nil
}

// bound gives the triggers that each target is bound to, in the order of uuids.
func (a *API) bound(ctx context.Context, targets []string) (map[string][]string, error) {
	links, err := a.eng.Links(ctx, targets)
	for _, uuids := range links {
		slices.Sort(uuids)
	}
	return links, err
}

// read gives the one with a uuid, or all.
func read[T any](ctx context.Context, uuid string, single func(context.Context, string) (T, error), all func(context.Context) ([]T, error)) ([]T, error) {
	if uuid == "" {
		return all(ctx)
	}
	x, err := single(ctx, uuid)
	if core.Is(err, core.NotFound) {
		return nil, nil
	}
	return []T{x}, err
}

// oldestFirst sorts definitions by their age and gives their uuids.
func oldestFirst[T any](all []T, meta func(T) core.Meta) []string {
	slices.SortFunc(all, func(x, y T) int {
		mx, my := meta(x), meta(y)
		return cmp.Or(mx.Created.Compare(my.Created), strings.Compare(mx.UUID, my.UUID))
	})
	uuids := make([]string, len(all))
	for i, x := range all {
		uuids[i] = meta(x).UUID
	}
	return uuids
}
