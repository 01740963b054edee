package zstack

import (
	"encoding/json"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// An input is what one call was given. Its accessors read a field as the type it
// ought to have and remember the first thing that is wrong: mismatch refuses the
// request with 400, invalid lets the call fail.
type input struct {
	call   string // name of the API
	job    string // names the request: the same when it is carried out again
	path   func(string) string
	query  url.Values     // of a DELETE; wins over the body
	fields map[string]any // of the body
	loose  bool           // the body has its fields outside of params

	mismatch *fault
	invalid  *fault
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

// checkMap refuses a map of a query string, written k.sub=v, that has a key twice.
func checkMap(q url.Values, name string) error {
	for key, values := range q {
		if strings.HasPrefix(key, name+".") && len(values) > 1 {
			return badRequest("duplicate map key[%s] in the query string", excerpt(key))
		}
	}
	return nil
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

// optional is text for a field of an update; nil when it is not given.
func (in *input) optional(name string) *string {
	if in.lookup(name) == nil {
		return nil
	}
	s := in.text(name)
	return &s
}

// choice reads a text that must be one of a few, as they are spelled; "" when it
// is not given.
func (in *input) choice(name string, valid ...string) string {
	s := in.text(name)
	if s != "" && !slices.Contains(valid, s) {
		in.fail(badArgument("valid value for field[%s] of message[API%sMsg] are [%s], but %s found", name, in.call, strings.Join(valid, ", "), excerpt(s)))
	}
	return s
}

func (in *input) mandatory(name string) {
	hint := "" // after the vendor's words, which clients may look for
	if in.loose {
		hint = `; the fields of this call belong inside "params" of the body`
	}
	in.fail(badArgument("field[%s] of message[API%sMsg] is mandatory, can not be null or empty%s", name, in.call, hint))
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
		return in.single(name)
	}
	out := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			in.misfit(name, "a list of strings", list)
			return nil
		}
		out[i] = strings.TrimSpace(s)
	}
	return distinct(out)
}

// distinct takes repetitions out of a list, which may be as long as a body.
func distinct(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}

// single reads a list that came as its only element.
func (in *input) single(name string) []string {
	if v, ok := in.lookup(name).(map[string]any); ok {
		in.misfit(name, "a list of strings", v)
		return nil
	}
	if s := in.text(name); s != "" {
		return []string{s}
	}
	return nil
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
