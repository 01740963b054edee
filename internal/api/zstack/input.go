package zstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// An input is what one call was given. Its accessors read a field as the type it
// ought to have and remember the first thing that is wrong: mismatch refuses the
// request with 400, invalid lets the call fail.
type input struct {
	call   string // name of the API
	job    string // X-Job-UUID, or ""
	path   func(string) string
	query  url.Values     // of a DELETE; wins over the body
	fields map[string]any // of the body

	mismatch *fault
	invalid  *fault
}

// readBody reads a JSON object; an empty body is an empty object. The server
// limits the length.
func readBody(c *gin.Context) (map[string]any, error) {
	raw, err := io.ReadAll(c.Request.Body)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return nil, &fault{http.StatusRequestEntityTooLarge, codeArgument, "the body is longer than " + strconv.FormatInt(long.Limit, 10) + " bytes"}
	}
	if err != nil {
		return nil, badRequest("the body cannot be read: %v", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil {
		return nil, badRequest("the body is not a JSON object: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("the body is not one JSON object: more follows it")
	}
	return body, nil
}

// object reads a member of a body that must be an object; null and nothing are
// an empty one.
func object(body map[string]any, name string) (map[string]any, error) {
	switch v := body[name].(type) {
	case nil:
		return map[string]any{}, nil
	case map[string]any:
		return v, nil
	default:
		return nil, badRequest("[%s] field is excepted an object, but was [%s].", name, excerpt(textOf(v)))
	}
}

// pick finds the call that a request means, and its fields.
func (e endpoint) pick(body map[string]any) (call, map[string]any, error) {
	if e.method != http.MethodPut {
		fields, err := object(body, "params")
		if err != nil {
			return call{}, nil, err
		}
		if e.method == http.MethodDelete { // documented beside params as well as inside
			for name, v := range body {
				if _, inside := fields[name]; !inside && name != "params" {
					fields[name] = v
				}
			}
		}
		return e.calls[0], fields, nil
	}
	for _, k := range e.calls {
		if _, ok := body[lowerFirst(k.name)]; ok {
			fields, err := object(body, lowerFirst(k.name))
			return k, fields, err
		}
	}
	return call{}, nil, badRequest("the body doesn't contain action mapping to the URL")
}

// lookup gives a field: text, json.Number, bool, []any, map[string]any or nil.
func (in *input) lookup(name string) any {
	switch values := repeated(in.query, name); len(values) {
	case 0:
		return in.fields[name]
	case 1:
		return values[0]
	default:
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = v
		}
		return list
	}
}

// repeated gives the values of a query parameter that is written k=a&k=b or
// k.0=a&k.1=b.
func repeated(q url.Values, name string) []string {
	values := slices.Clone(q[name])
	for i := 0; ; i++ {
		more, ok := q[name+"."+strconv.Itoa(i)]
		if !ok {
			return values
		}
		values = append(values, more...)
	}
}

func (in *input) misfit(name, want string, v any) {
	if in.mismatch == nil {
		in.mismatch = badRequest("[%s] field is excepted %s, but was [%s].", name, want, excerpt(textOf(v)))
	}
}

func (in *input) fail(f *fault) {
	if in.invalid == nil {
		in.invalid = f
	}
}

// text reads a text, trimmed; "" when it is not given. Numbers and booleans are
// taken as their text, as ZStack's JSON reader does.
func (in *input) text(name string) string {
	switch v := in.lookup(name).(type) {
	case nil:
		return ""
	case string:
		return strings.TrimSpace(v)
	case json.Number, bool:
		return textOf(v)
	default:
		in.misfit(name, "a string", v)
		return ""
	}
}

// mustText is text for a mandatory field.
func (in *input) mustText(name string) string {
	s := in.text(name)
	if s == "" {
		in.mandatory(name)
	}
	return s
}

func (in *input) mandatory(name string) {
	in.fail(badArgument("field[%s] of message[API%sMsg] is mandatory, can not be null or empty", name, in.call))
}

// number reads a whole number and whether it is given.
func (in *input) number(name string) (int64, bool) {
	v := in.lookup(name)
	if v == nil || v == "" {
		return 0, false
	}
	n, ok := wholeNumber(textOf(v))
	if !ok {
		in.misfit(name, "an int or long", v)
	}
	return n, ok
}

// wholeNumber reads an integer, also one that is written as a float: ZStack's
// own examples send 3600.0 and 1.510669257141E12.
func wholeNumber(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	decimal := strings.Trim(s, "+-.0123456789eE") == "" // not the other forms Go knows
	if err != nil || !decimal || f != math.Trunc(f) || math.Abs(f) >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}

// flag reads a boolean; false when it is not given.
func (in *input) flag(name string) bool {
	v := in.lookup(name)
	switch textOf(v) {
	case "true":
		return true
	case "false", "":
		return false
	}
	in.misfit(name, "a boolean", v)
	return false
}

// texts reads a list of texts without repetitions; one text is a list of one.
func (in *input) texts(name string) []string {
	list, ok := in.lookup(name).([]any)
	if !ok {
		if s := in.text(name); s != "" {
			return []string{s}
		}
		return nil
	}
	var out []string
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			in.misfit(name, "a list of strings", list)
			return nil
		}
		if s = strings.TrimSpace(s); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// mapping reads a map whose values are texts, numbers, booleans or, as JSON,
// anything else. Members that are null are left out.
func (in *input) mapping(name string) map[string]string {
	v := in.lookup(name)
	fields, ok := v.(map[string]any)
	if !ok && v != nil {
		in.misfit(name, "a map", v)
	}
	out := make(map[string]string, len(fields))
	for k, v := range fields {
		if v != nil {
			out[k] = textOf(v)
		}
	}
	return out
}

// textOf gives a JSON value as a text: itself, or its JSON.
func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return string(encode(v))
}

// excerpt bounds what an error repeats of a request.
func excerpt(s string) string {
	const most = 200
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

// meta reads what every create call has. tagUuids, systemTags and userTags are
// accepted and not kept: Takt has no tags.
func (in *input) meta() core.Meta {
	m := core.Meta{
		UUID: in.text("resourceUuid"), Dialect: core.ZStack, Name: in.mustText("name"), Description: in.text("description"),
	}
	in.texts("tagUuids")
	if m.UUID != "" && !id.ValidResource(m.UUID) {
		in.fail(badArgument("resourceUuid[%s] is not a valid uuid: it must be a uuid of version 1 to 5 in 32 lower-case hexadecimal digits", excerpt(m.UUID)))
	}
	return m
}

// uuid reads a uuid from the path that must name a resource.
func (in *input) uuid(param, field string) string {
	u := strings.TrimSpace(in.path(param))
	in.checkUUID(field, u)
	return u
}

func (in *input) checkUUID(field, u string) {
	if !id.Valid(u) {
		in.fail(badArgument("field[%s] of message[API%sMsg] is not a valid uuid: [%s]", field, in.call, excerpt(u)))
	}
}

// doomed reads the uuid of what a delete call is to delete. ZStack says of a
// malformed one that the resource is not found; a placeholder that was copied
// from the documentation gets the text that helps.
func (in *input) doomed(name func(field, uuid string) ref) string {
	u := strings.TrimSpace(in.path("uuid"))
	if !id.Valid(u) && !placeholder(u) {
		in.fail(name("uuid", excerpt(u)).missing())
	}
	in.checkUUID("uuid", u)
	return u
}

// placeholder reports whether s is a placeholder such as {uuid} or <uuid>.
func placeholder(s string) bool { return strings.ContainsAny(s, "{}<>") }

// uuidList reads the uuids of a list field or, in the form of ZStack's older
// documentation, of the path: [u1,u2].
func (in *input) uuidList(field string) []string {
	list := in.texts(field)
	for _, u := range strings.Split(strings.Trim(in.path("uuids"), "[]"), ",") {
		if u = strings.Trim(u, " \"'"); u != "" && !slices.Contains(list, u) {
			list = append(list, u)
		}
	}
	if len(list) == 0 {
		in.mandatory(field)
	}
	for _, u := range list {
		in.checkUUID(field, u)
	}
	return list
}
