package native_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin/binding"
)

// A description is openapi.yaml, read as any JSON document is.
type description struct{ root map[string]any }

var readDescription = sync.OnceValues(func() (*description, error) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	var root map[string]any
	if err := binding.YAML.BindBody(text, &root); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(root); err != nil { // for JSON's own types
		return nil, err
	}
	d := &description{}
	return d, json.Unmarshal(text, &d.root)
})

func describe(t testing.TB) *description {
	t.Helper()
	d, err := readDescription()
	if err != nil {
		t.Fatalf("read openapi.yaml: %v", err)
	}
	return d
}

// at follows names from the root; nil where one is missing.
func (d *description) at(names ...string) map[string]any {
	node := d.root
	for _, name := range names {
		node, _ = node[name].(map[string]any)
	}
	return node
}

// resolve follows $ref.
func (d *description) resolve(node map[string]any) map[string]any {
	ref, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	return d.resolve(d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
}

func (d *description) schema(name string) map[string]any { return d.at("components", "schemas", name) }

// An operation is one method of one path.
type operation struct {
	method, path string
	node         map[string]any
	parameters   []map[string]any // the path's own included
}

func (d *description) operations() []operation {
	var out []operation
	for _, path := range slices.Sorted(maps.Keys(d.at("paths"))) {
		item := d.at("paths", path)
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			node, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			op := operation{method: strings.ToUpper(method), path: path, node: node}
			for _, list := range []any{item["parameters"], node["parameters"]} {
				entries, _ := list.([]any)
				for _, p := range entries {
					op.parameters = append(op.parameters, d.resolve(p.(map[string]any)))
				}
			}
			out = append(out, op)
		}
	}
	return out
}

// find gives the operation that answers a request. Fixed segments win.
func (d *description) find(method, path string) (operation, bool) {
	path, _, _ = strings.Cut(path, "?")
	var found operation
	for _, op := range d.operations() {
		if op.method != method || !pathMatches(op.path, path) {
			continue
		}
		if found.path == "" || strings.Count(op.path, "{") < strings.Count(found.path, "{") {
			found = op
		}
	}
	return found, found.path != ""
}

func pathMatches(template, path string) bool {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if want[i] != have[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}

// checkAnswer holds an answer of a real handler to the description.
func (d *description) checkAnswer(t testing.TB, method, path string, a *answer) {
	t.Helper()
	op, ok := d.find(method, path)
	if !ok {
		return // the test asks for what does not exist
	}
	responses, _ := op.node["responses"].(map[string]any)
	response, ok := responses[fmt.Sprint(a.status)].(map[string]any)
	if !ok && a.status >= 500 {
		response, ok = responses["default"].(map[string]any)
	}
	if !ok {
		t.Errorf("%s answers %d, which openapi.yaml does not say of %s %s; body %s", a.what, a.status, op.method, op.path, a.text)
		return
	}
	response = d.resolve(response)
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		if a.header.Get(name) == "" && name != "Log-Position" {
			t.Errorf("%s answers %d without the header %s", a.what, a.status, name)
		}
	}
	d.checkContent(t, response, a)
}

func (d *description) checkContent(t testing.TB, response map[string]any, a *answer) {
	t.Helper()
	content, _ := response["content"].(map[string]any)
	if content == nil {
		if a.text != "" {
			t.Errorf("%s answers %d with a body that is not described: %s", a.what, a.status, a.text)
		}
		return
	}
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	media, ok := content[mediaType].(map[string]any)
	if !ok {
		t.Errorf("%s answers %d with content type %q, which is not described", a.what, a.status, mediaType)
		return
	}
	if !strings.HasSuffix(mediaType, "json") {
		return
	}
	var value any
	if err := json.Unmarshal([]byte(a.text), &value); err != nil {
		t.Errorf("%s: %v", a.what, err)
		return
	}
	for _, fault := range d.faults("answer", media["schema"].(map[string]any), value) {
		t.Errorf("%s answers %d against openapi.yaml: %s", a.what, a.status, fault)
	}
}

// faults says where a value does not fit a schema, of the keywords that
// openapi.yaml uses. An object with properties has no others: what the handlers
// send is to be described.
func (d *description) faults(at string, schema map[string]any, value any) []string {
	schema = d.resolve(schema)
	if options, ok := schema["anyOf"].([]any); ok {
		return d.anyOf(at, options, value)
	}
	if !typeFits(schema["type"], value) {
		return []string{fmt.Sprintf("%s is %v, want type %v", at, value, schema["type"])}
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, value) {
		return []string{fmt.Sprintf("%s is %v, want one of %v", at, value, enum)}
	}
	switch value := value.(type) {
	case string:
		return stringFaults(at, schema, value)
	case float64:
		return numberFaults(at, schema, value)
	case []any:
		return d.listFaults(at, schema, value)
	case map[string]any:
		return d.objectFaults(at, schema, value)
	}
	return nil
}

func (d *description) anyOf(at string, options []any, value any) []string {
	var faults []string
	for _, option := range options {
		found := d.faults(at, option.(map[string]any), value)
		if len(found) == 0 {
			return nil
		}
		faults = append(faults, found...)
	}
	return faults
}

func typeFits(want, value any) bool {
	if several, ok := want.([]any); ok {
		return slices.ContainsFunc(several, func(one any) bool { return typeFits(one, value) })
	}
	switch v := value.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case string:
		return want == "string"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	}
	return want == "object"
}

func stringFaults(at string, schema map[string]any, value string) []string {
	var faults []string
	if pattern, ok := schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(value) {
		faults = append(faults, fmt.Sprintf("%s is %q, want pattern %s", at, value, pattern))
	}
	layouts := map[any]string{"date-time": time.RFC3339, "date": time.DateOnly}
	if layout, ok := layouts[schema["format"]]; ok {
		if _, err := time.Parse(layout, value); err != nil {
			faults = append(faults, fmt.Sprintf("%s is %q, want %s", at, value, schema["format"]))
		}
	}
	if most, ok := schema["maxLength"].(float64); ok && len([]rune(value)) > int(most) {
		faults = append(faults, fmt.Sprintf("%s is longer than %v", at, most))
	}
	if least, ok := schema["minLength"].(float64); ok && len([]rune(value)) < int(least) {
		faults = append(faults, fmt.Sprintf("%s is shorter than %v", at, least))
	}
	return faults
}

func numberFaults(at string, schema map[string]any, value float64) []string {
	if least, ok := schema["minimum"].(float64); ok && value < least {
		return []string{fmt.Sprintf("%s is %v, want %v at least", at, value, least)}
	}
	if most, ok := schema["maximum"].(float64); ok && value > most {
		return []string{fmt.Sprintf("%s is %v, want %v at most", at, value, most)}
	}
	return nil
}

func (d *description) listFaults(at string, schema map[string]any, value []any) []string {
	var faults []string
	items := schema["items"].(map[string]any)
	for i, element := range value {
		faults = append(faults, d.faults(fmt.Sprintf("%s[%d]", at, i), items, element)...)
	}
	return faults
}

func (d *description) objectFaults(at string, schema map[string]any, value map[string]any) []string {
	var faults []string
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			faults = append(faults, fmt.Sprintf("%s lacks %s", at, name))
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	more, _ := schema["additionalProperties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(value)) {
		property, ok := properties[name].(map[string]any)
		if !ok {
			property = more
		}
		if property != nil {
			faults = append(faults, d.faults(at+"."+name, property, value[name])...)
		} else if properties != nil {
			faults = append(faults, fmt.Sprintf("%s has %s, which is not described", at, name))
		}
	}
	return faults
}
