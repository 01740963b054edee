package native_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

func TestEveryRouteIsDescribedAndViceVersa(t *testing.T) {
	var mounted, described []string
	parameter := regexp.MustCompile(`:(\w+)`)
	for _, r := range router(native.New(nil, nil, native.Options{})).Routes() {
		path := parameter.ReplaceAllString(strings.TrimPrefix(r.Path, prefix), "{$1}")
		mounted = append(mounted, r.Method+" "+path)
	}
	for _, op := range describe(t).operations() {
		described = append(described, op.method+" "+op.path)
	}
	slices.Sort(mounted)
	slices.Sort(described)
	if diff := cmp.Diff(described, mounted); diff != "" {
		t.Errorf("routes (-described +mounted):\n%s", diff)
	}
}

func TestOperationsAreComplete(t *testing.T) {
	d := describe(t)
	ids := map[string]bool{}
	pathParameter := regexp.MustCompile(`\{(\w+)\}`)
	for _, op := range d.operations() {
		name := op.method + " " + op.path
		id, _ := op.node["operationId"].(string)
		if id == "" || ids[id] {
			t.Errorf("%s: operationId %q is empty or used twice", name, id)
		}
		ids[id] = true
		if op.node["summary"] == nil || op.node["tags"] == nil {
			t.Errorf("%s lacks a summary or a tag", name)
		}
		var have []string
		for _, p := range op.parameters {
			if p["in"] == "path" {
				have = append(have, p["name"].(string))
			}
			if p["description"] == nil || p["schema"] == nil {
				t.Errorf("%s: parameter %v lacks a description or a schema", name, p["name"])
			}
		}
		var want []string
		for _, m := range pathParameter.FindAllStringSubmatch(op.path, -1) {
			want = append(want, m[1])
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: path parameters (-path +described):\n%s", name, diff)
		}
		responses := op.node["responses"].(map[string]any)
		_, open := op.node["security"]
		if responses["default"] == nil || !open && responses["401"] == nil {
			t.Errorf("%s: responses lack default or 401", name)
		}
	}
}

func TestEveryReferenceResolves(t *testing.T) {
	d := describe(t)
	used := map[string]bool{}
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, n := range node {
				walk(n)
			}
		case map[string]any:
			if ref, ok := node["$ref"].(string); ok {
				used[ref] = true
				if d.resolve(node) == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, n := range node {
				walk(n)
			}
		}
	}
	walk(d.root)
	for _, kind := range []string{"schemas", "responses", "parameters", "headers", "requestBodies"} {
		for name := range d.at("components", kind) {
			ref := "#/components/" + kind + "/" + name
			// The data of events stands in a text.
			if !used[ref] && !slices.Contains([]string{"LogText", "LogEnd", "JobFields", "GroupFields", "TriggerFields"}, name) {
				t.Errorf("%s is used nowhere", ref)
			}
		}
	}
}

// wireTypes are the Go types behind the schemas.
var wireTypes = map[string]any{
	"Problem":   native.Problem{},
	"JobFields": native.JobFields{}, "JobPatch": native.JobFields{}, "NewJob": native.NewJob{}, "Job": native.Job{}, "JobList": native.JobList{},
	"Retry":       native.Retry{},
	"GroupFields": native.GroupFields{}, "GroupPatch": native.GroupFields{}, "NewGroup": native.NewGroup{}, "Group": native.Group{},
	"GroupList": native.GroupList{}, "Member": native.Member{}, "AddJobs": native.AddJobs{},
	"Schedule": native.Schedule{}, "SchedulePatch": native.Schedule{}, "Misfire": native.Misfire{}, "Overlap": native.Overlap{},
	"TriggerFields": native.TriggerFields{}, "TriggerPatch": native.TriggerFields{}, "NewTrigger": native.NewTrigger{},
	"Trigger": native.Trigger{}, "TriggerList": native.TriggerList{}, "Target": native.Target{},
	"NewBinding": native.NewBinding{}, "Binding": native.Binding{}, "FireRequest": native.FireRequest{},
	"LedgerEntry": native.LedgerEntry{}, "LedgerDay": native.LedgerDay{}, "Ledger": native.Ledger{},
	"RunRequest": native.RunRequest{}, "CancelRequest": native.CancelRequest{},
	"Run": native.Run{}, "StepCounts": native.StepCounts{}, "RunList": native.RunList{}, "RunDetail": native.RunDetail{},
	"Step": native.Step{}, "Progress": native.Progress{}, "Attempt": native.Attempt{}, "LogText": native.LogText{}, "LogEnd": native.LogEnd{},
	"Worker": native.Worker{}, "WorkerList": native.WorkerList{}, "Resource": native.Resource{}, "ResourceList": native.ResourceList{},
	"JobType": native.JobType{}, "Parameter": native.Parameter{}, "JobTypeList": native.JobTypeList{},
	"PreviewRequest": native.PreviewRequest{}, "Preview": native.Preview{},
	"NewSession": native.NewSession{}, "Session": native.Session{}, "Me": native.Me{},
	"NewAccount": native.NewAccount{}, "AccountPatch": native.AccountPatch{}, "Account": native.Account{}, "AccountList": native.AccountList{},
	"NewToken": native.NewToken{}, "Token": native.Token{}, "TokenList": native.TokenList{},
	"CBTPatch": native.CBTFields{}, "NewCBTTask": native.NewCBTTask{}, "CBTTask": native.CBTTask{}, "CBTTaskList": native.CBTTaskList{},
	"CBTMachine": native.CBTMachine{}, "CBTVolume": native.CBTVolume{}, "CBTSession": native.CBTSession{}, "CBTExport": native.CBTExport{},
	"CBTEnable": native.CBTEnable{}, "CBTDisable": native.CBTDisable{}, "Checkpoint": native.Checkpoint{}, "CheckpointList": native.CheckpointList{},
	"Changes": native.Changes{}, "Extent": native.Extent{}, "EstimateList": native.EstimateList{}, "Estimate": native.Estimate{},
	"VolumeEstimate": native.VolumeEstimate{},
	"NewBackup":      native.NewBackup{}, "Backup": native.Backup{}, "BackupMachine": native.BackupMachine{}, "BackupFile": native.BackupFile{},
	"BackupList": native.BackupList{}, "RestoreBackup": native.RestoreBackup{},
}

func TestSchemasAreTheWireTypes(t *testing.T) {
	d := describe(t)
	for name, schema := range d.at("components", "schemas") {
		if _, isObject := schema.(map[string]any)["properties"]; isObject && wireTypes[name] == nil {
			t.Errorf("schema %s has no Go type", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wireTypes)) {
		t.Run(name, func(t *testing.T) {
			schema := d.schema(name)
			if schema == nil {
				t.Fatalf("there is no schema %s", name)
			}
			properties, _ := schema["properties"].(map[string]any)
			want := map[string]string{}
			for _, f := range reflect.VisibleFields(reflect.TypeOf(wireTypes[name])) {
				if field, _, _ := strings.Cut(f.Tag.Get("json"), ","); field != "" {
					want[field] = jsonType(f.Type)
				}
			}
			have := map[string]string{}
			for field, property := range properties {
				have[field] = d.typeOf(property.(map[string]any))
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("fields (-Go +openapi.yaml):\n%s", diff)
			}
		})
	}
}

func jsonType(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return jsonType(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return "string date-time"
	case t == reflect.TypeFor[native.Duration]():
		return "string"
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "array of " + jsonType(t.Elem())
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	}
	return "string"
}

// typeOf is jsonType of a schema; that null is possible does not count.
func (d *description) typeOf(schema map[string]any) string {
	schema = d.resolve(schema)
	if options, ok := schema["anyOf"].([]any); ok {
		return d.typeOf(options[0].(map[string]any))
	}
	kind := schema["type"]
	if several, ok := kind.([]any); ok {
		kind = several[0]
	}
	switch {
	case kind == "array":
		return "array of " + d.typeOf(schema["items"].(map[string]any))
	case schema["format"] == "date-time":
		return "string date-time"
	}
	return fmt.Sprint(kind)
}

func TestEnumsAreComplete(t *testing.T) {
	d := describe(t)
	texts := func(list any) []string {
		var out []string
		v := reflect.ValueOf(list)
		for i := range v.Len() {
			out = append(out, fmt.Sprint(v.Index(i)))
		}
		return out
	}
	tests := []struct {
		schema string
		want   any
	}{
		{"RunState", core.RunStates()},
		{"StepState", core.StepStates()},
		{"TargetKind", []core.TargetKind{core.GroupTarget, core.JobTarget}},
		{"RunKind", []core.TargetKind{core.GroupTarget, core.JobTarget, core.CBTTarget}},
		{"Dialect", []core.Dialect{core.Native, core.ZStack}},
		{"CBTStatus", []core.CBTStatus{core.CBTCreated, core.CBTStarting, core.CBTRunning, core.CBTStopped, core.CBTFailed}},
		{"CBTOperation", []core.CBTOp{core.CBTEnable, core.CBTDisable, core.CBTDelete, core.CBTForget, core.CBTCheck, core.CBTExport, core.CBTUnexport, core.CBTBackup, core.CBTRestore, core.CBTVerify, core.CBTDiscard}},
		{"CronDialect", []schedule.Dialect{schedule.Quartz, schedule.Unix}},
		{"Role", []core.Role{core.Admin, core.Operator, core.Viewer}},
		{"Priority", []core.Priority{core.PriorityCritical, core.PriorityDefault, core.PriorityLow}},
		{"Decision", []core.Decision{core.Fired, core.Late, core.Buffered, core.Skipped, core.Merged, core.Missed, core.Failed}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(texts(tt.want), texts(d.schema(tt.schema)["enum"])); diff != "" {
			t.Errorf("%s (-Go +openapi.yaml):\n%s", tt.schema, diff)
		}
	}
}

// TestExamples holds the examples of bodies to their schemas.
func TestExamples(t *testing.T) {
	d := describe(t)
	count := 0
	for _, op := range d.operations() {
		requestBody, _ := op.node["requestBody"].(map[string]any)
		content, _ := d.resolve(requestBody)["content"].(map[string]any)
		for mediaType, media := range content {
			media := media.(map[string]any)
			examples, _ := media["examples"].(map[string]any)
			if len(examples) == 0 {
				t.Errorf("%s %s: no example of a body as %s", op.method, op.path, mediaType)
			}
			for name, example := range examples {
				count++
				for _, fault := range d.faults(name, media["schema"].(map[string]any), example.(map[string]any)["value"]) {
					t.Errorf("%s %s: example %s", op.method, op.path, fault)
				}
			}
		}
	}
	if count < 15 {
		t.Errorf("%d examples, want 15 at least", count)
	}
}

// TestQueryParametersAreDescribed asks each route for one that it cannot know:
// the refusal lists those it does.
func TestQueryParametersAreDescribed(t *testing.T) {
	e := start(t, native.Options{})
	filled := regexp.MustCompile(`\{\w+\}`)
	for _, op := range e.doc.operations() {
		want := []string{}
		for _, p := range op.parameters {
			if p["in"] == "query" {
				want = append(want, p["name"].(string))
			}
		}
		path := filled.ReplaceAllString(op.path, "0f5b1f0c8f2d4b7e9f0c2d3e4f5a6b7c")
		req := e.admin()
		res := req.raw(op.method, path+"?unheardOf=1")
		if res.status != 400 || res.problem().Field != "unheardOf" {
			t.Errorf("%s %s takes a parameter nobody knows: %d %s", op.method, op.path, res.status, res.text)
			continue
		}
		_, known, _ := strings.Cut(res.problem().Detail, "which takes: ")
		have := []string{}
		if known != "none" {
			have = strings.Split(known, ", ")
		}
		slices.Sort(want)
		slices.Sort(have)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s %s query parameters (-described +taken):\n%s", op.method, op.path, diff)
		}
	}
}

// raw is do for an answer that the description does not speak of.
func (c client) raw(method, path string) *answer {
	c.e.t.Helper()
	doc := c.e.doc
	c.e.doc = &description{}
	defer func() { c.e.doc = doc }()
	return c.do(method, path, nil)
}

func TestDescriptionIsServed(t *testing.T) {
	e := start(t, native.Options{})
	res := e.as("").get("/openapi.json").want(200)
	var got map[string]any
	res.read(&got)
	if diff := cmp.Diff(e.doc.root, got); diff != "" {
		t.Errorf("openapi.json is not openapi.yaml (-yaml +json):\n%s", diff)
	}
	if got["openapi"] != "3.1.0" {
		t.Errorf("openapi %v, want 3.1.0", got["openapi"])
	}
	res = e.as("").get("/openapi.yaml").want(200)
	if !strings.Contains(res.text, "openapi: 3.1.0") {
		t.Errorf("openapi.yaml begins with %.80q", res.text)
	}
	var asJSON json.RawMessage
	if json.Unmarshal([]byte(res.text), &asJSON) == nil {
		t.Error("openapi.yaml is JSON, want YAML")
	}
}
