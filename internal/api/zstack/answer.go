package zstack

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// An answer is the body of a success. The zero value is {}: every success must
// be an object, for the Go SDK dereferences nil on an empty body, and must not
// hold "location", for it would poll.
type answer struct {
	inventory any   // one thing, or nil
	list      []any // many, or nil
	class     string
	total     *int
	warning   string // that the list or the total is not all there is; "" = it is
	success   bool   // tells so, as the pages of newer calls have it
	parts     []part // what newer calls answer besides
}

// A part is a list of an answer that has a key of its own.
type part struct {
	key, class string
	list       []any
}

// A parent is an inventory that holds a list of others.
type parent interface {
	children() (field, class string, n int)
}

func one(class string, inventory any) answer { return answer{inventory: inventory, class: class} }

func many(class string, list []any) answer {
	if list == nil {
		list = []any{}
	}
	return answer{list: list, class: class}
}

// encode writes the answer. The schema tells the Java SDK which class each
// element has; it must name only what is there.
func (an answer) encode(schema bool) []byte {
	body, classes := map[string]any{}, map[string]string{}
	if an.inventory != nil {
		body["inventory"] = an.inventory
		classes["inventory"] = an.class
		nested(classes, "inventory", an.inventory)
		if an.class != sessionClass {
			body["error"] = nil // the pages list it as always there
		}
	}
	if an.list != nil {
		body["inventories"] = an.list
		listed(classes, "inventories", an.class, an.list)
	}
	for _, p := range an.parts {
		body[p.key] = p.list
		listed(classes, p.key, p.class, p.list)
	}
	if an.success {
		body["success"] = true
	}
	if an.total != nil {
		body["total"] = *an.total
	}
	if an.warning != "" {
		body["warning"] = an.warning // a key that neither SDK minds
	}
	if schema && (an.inventory != nil || an.list != nil || len(an.parts) > 0) {
		body["schema"] = classes
	}
	return encode(body)
}

func listed(classes map[string]string, key, class string, list []any) {
	for i, v := range list {
		path := key + "[" + strconv.Itoa(i) + "]"
		classes[path] = class
		nested(classes, path, v)
	}
}

func nested(classes map[string]string, path string, v any) {
	p, ok := v.(parent)
	if !ok {
		return
	}
	field, class, n := p.children()
	for i := range n {
		classes[path+"."+field+"["+strconv.Itoa(i)+"]"] = class
	}
}

// withoutSchema takes the schema out of an encoded answer.
func withoutSchema(body []byte) []byte {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil || parts["schema"] == nil {
		return body
	}
	delete(parts, "schema")
	return encode(parts)
}

// encode writes JSON without escaping < and >, which the texts of ZStack and the
// placeholders of its documentation hold.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("zstack: a wire value cannot be encoded: " + err.Error()) // none of them can fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func writeJSON(c *gin.Context, status int, body []byte) {
	c.Data(status, "application/json; charset=utf-8", body)
}

// stampLayout is the only form that every version of the Java SDK reads: an epoch
// number, "" or ISO without a zone makes its whole call fail.
const stampLayout = "Jan 2, 2006 3:04:05 PM"

// A stamp is an instant in the zone that clients are shown; zero is null.
type stamp struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + s.Format(stampLayout) + `"`), nil
}

func (a *API) stamp(t time.Time) stamp {
	if t.IsZero() {
		return stamp{}
	}
	return stamp{t.In(a.opts.Zone)}
}

// A nullable is a text that is null where it is empty, as in ZStack's columns.
type nullable string

// MarshalJSON implements json.Marshaler.
func (n nullable) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	return encode(string(n)), nil
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int64 {
	return int64((max(d, 0) + time.Second - 1) / time.Second)
}

// lowerFirst gives an API's name as the key of a PUT body.
func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
