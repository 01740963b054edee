package zstack_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// QueryCbtTask with the grammar of section 1.7 on all fields of its inventory: x
// was enabled once and is Stopped, Y failed and has two machines.
func TestCBTQueryRows(t *testing.T) {
	r, host := attended(t, zstack.Options{})
	m := machines(3)
	make := func(fields string) string {
		return r.do("POST", "/cbt-task/create", params(fields)).inventory()["uuid"].(string)
	}
	x := make(`"name":"x 1%","description":"disks","vmInstanceUuid":"` + m[0] + `"`)
	r.do("POST", "/cbt-task/enable/"+x, "").ok()
	r.do("POST", "/cbt-task/disable/"+x, "").ok()
	y := make(`"name":"Y,2","taskType":"Machine","resourceUuids":["` + m[1] + `","` + m[2] + `"]`)
	host.Fail(cbt.OpOpen, "the disk is gone")
	r.do("POST", "/cbt-task/enable/"+y, "").fails(business, "SYS.1006", "")
	bitmap := cbt.CheckpointName(x, 1)

	for _, row := range []struct {
		row  string // of the specification
		ask  []string
		want string // of x and y
	}{
		{"no condition", nil, "x y"},
		{"uuid =", []string{"q→uuid=" + x}, "x"},
		{"uuid ?=", []string{"q→uuid?=" + x + "," + y}, "x y"},
		{"uuid !=", []string{"q→uuid!=" + x}, "y"},
		{"name =, case-insensitive", []string{"q→name=X 1%"}, "x"},
		{"name ~=", []string{"q→name~=x%"}, "x"},
		{"name !~=", []string{"q→name!~=x%"}, "y"},
		{"name >", []string{"q→name>x 1%"}, "y"},
		{"description =", []string{"q→description=DISKS"}, "x"},
		{"description is null", []string{"q→description is null"}, "y"},
		{"description not null", []string{"q→description not null"}, "x"},
		{"status =", []string{"q→status=Failed"}, "y"},
		{"status ?=", []string{"q→status?=Created,Stopped"}, "x"},
		{"status !?=", []string{"q→status!?=Created,Stopped"}, "y"},
		{"createDate >=", []string{"q→createDate>=2026-01-01"}, "x y"},
		{"createDate <", []string{"q→createDate<2026-01-01 00:00:00"}, ""},
		{"lastOpDate >", []string{"q→lastOpDate>1510698057"}, "x y"},
		{"lastOpDate <=", []string{"q→lastOpDate<=Jan 1, 2026 0:00:00 AM"}, ""},
		{"taskType =", []string{"q→taskType=vm"}, "x"},
		{"bitmapName =", []string{"q→bitmapName=" + bitmap}, "x"},
		{"bitmapName is null", []string{"q→bitmapName is null"}, "y"},
		{"lastError ~=", []string{"q→lastError~=%disk%"}, "y"},
		{"lastError is null", []string{"q→lastError is null"}, "x"},
		{"resourceRefs, by membership", []string{"q→resourceRefs=" + m[2]}, "y"},
		{"resourceRefs.resourceUuid =", []string{"q→resourceRefs.resourceUuid=" + m[0]}, "x"},
		{"resourceRef.resourceUuid, ZStack's expanded query", []string{"q→resourceRef.resourceUuid?=" + m[1] + "," + m[0]}, "x y"},
		{"resourceRef.resourceUuid !=", []string{"q→resourceRef.resourceUuid!=" + m[1]}, "x"},
		{"resourceRef.resourceUuid in upper case", []string{"q→resourceRef.resourceUuid=" + strings.ToUpper(m[1])}, "y"},
		{"resourceRef.resourceType =", []string{"q→resourceRef.resourceType=VmInstanceVO"}, "x y"},
		{"resourceRefs.taskUuid =", []string{"q→resourceRefs.taskUuid=" + y}, "y"},
		{"conditions are joined by and", []string{"q→status=Failed", "q→resourceRef.resourceUuid=" + m[0]}, ""},
		{"__systemTag__", []string{"q→__systemTag__=a::b"}, ""},
		{"limit and start", []string{"sort→name", "start→1", "limit→1"}, "y"},
		{"sort by name, from the end", []string{"sort→-name"}, "y x"},
		{"sort by status", []string{"sort→status"}, "y x"},
		{"sort by lastError, null first", []string{"sort→lastError"}, "x y"},
		{"sort by createDate, from the end", []string{"sort→-uuid", "q→createDate not null"}, map[bool]string{true: "x y", false: "y x"}[x > y]},
		{"groupBy and filterName are accepted", []string{"groupBy→name", "filterName→a:b"}, "x y"},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			want := []string{}
			for w := range strings.FieldsSeq(row.want) {
				want = append(want, map[string]string{"x": x, "y": y}[w])
			}
			got := r.do("GET", "/cbt-task"+q(row.ask...), "").inventories()
			equal(t, "tasks", column(got, "uuid"), want)
		})
	}
	for _, row := range []struct{ ask, text string }{
		{"q→color=red", "condition name[color] is invalid, no such field on inventory class[org.zstack.header.cbt.CbtTaskInventory]"},
		{"q→resourceRef.color=red", "condition name[resourceRef.color] is invalid"},
		{"q→trigger.name=x", "condition name[trigger.name] is invalid"},
		{"sort→resourceRefs", "sort field[resourceRefs] is invalid"},
		{"sort→resourceRef.resourceUuid", "sort field[resourceRef.resourceUuid] is invalid"},
		{"fields→resourceRef.resourceUuid", "field[resourceRef.resourceUuid] is invalid"},
		{"q→createDate=soon", "condition[createDate = soon] is invalid"},
	} {
		r.do("GET", "/cbt-task"+q(row.ask), "").fails(business, argument, row.text)
	}
}

// What of an inventory comes back, and how many there are.
func TestCBTQueryFieldsAndTotals(t *testing.T) {
	r, _ := attended(t, zstack.Options{})
	vm := id.New()
	task := r.cbtTask(vm)
	got := r.do("GET", "/cbt-task?fields=uuid,status,resourceRefs", "").ok()
	row := got["inventories"].([]any)[0].(map[string]any)
	refs := row["resourceRefs"].([]any)[0].(map[string]any)
	if len(row) != 3 || row["uuid"] != task || row["status"] != "Created" || refs["resourceUuid"] != vm || got["success"] != true {
		t.Errorf("fields = %v", got)
	}
	equal(t, "count", r.do("GET", "/cbt-task?count=true", "").ok(), map[string]any{"total": jsonNumber("1"), "success": true})
	equal(t, "total", r.do("GET", "/cbt-task?replyWithCount=true&limit=0", "").ok()["total"], jsonNumber("1"))
	equal(t, "one by its path", column(r.do("GET", "/v1/cbt-task/"+task+"?fields=uuid", "").inventories(), "uuid"), []string{task})
	equal(t, "none by its path", len(r.do("GET", "/cbt-task/"+id.New(), "").inventories()), 0)
	r.do("GET", "/cbt-task/"+url.PathEscape("{uuid}"), "").fails(business, argument, "field[uuid] is not a valid uuid")
	r.do("GET", "/cbt-task", "", "Authorization", "OAuth "+id.New()).fails(business, "ID.1001", "Session expired")
	viewer := r.signIn("vic", core.Viewer)
	equal(t, "what an account without tasks sees", len(r.do("GET", "/cbt-task", "", "Authorization", "OAuth "+viewer).inventories()), 0)
}
