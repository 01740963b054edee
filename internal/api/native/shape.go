package native

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// encoding/json takes names in any case, repeated members and, of nested
// objects, names the wrong member without its path. So a body is walked once
// beside the type it is to fill, and the first member that does not fit is named
// in full: "schedule.repeat must be a whole number, not a string".

// checkShape compares a JSON text, whose syntax is right, with the struct that v
// is or points to. A patch may hold null anywhere, and what it may not change is
// said to be unchangeable rather than unknown.
func checkShape(text []byte, v any, patch bool) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	w := walker{dec: dec, patch: patch}
	return w.value("", reflect.TypeOf(v))
}

type walker struct {
	dec   *json.Decoder
	patch bool
}

var (
	durationType = reflect.TypeFor[Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

func (w *walker) value(path string, t reflect.Type) error {
	token, err := w.dec.Token()
	if err != nil {
		return err
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if token == nil {
		return null(path)
	}
	switch {
	case t == durationType:
		return duration(path, token)
	case t == timeType:
		return instant(path, token)
	}
	switch t.Kind() {
	case reflect.Struct:
		return w.object(path, t, token)
	case reflect.Map:
		return w.entries(path, t, token)
	case reflect.Slice:
		return w.list(path, t, token)
	}
	return scalar(path, t, token)
}

// null is absence, except where there is no absence: as the whole body.
func null(path string) error {
	if path == "" {
		return mismatch(path, "an object", nil)
	}
	return nil
}

func (w *walker) object(path string, t reflect.Type, token json.Token) error {
	if token != json.Delim('{') {
		return mismatch(path, "an object", token)
	}
	fields := fieldsOf(t)
	seen := map[string]bool{}
	for w.dec.More() {
		name, err := w.member(path, seen)
		if err != nil {
			return err
		}
		field, known := fields[name]
		if !known {
			return w.unknown(join(path, name), fields)
		}
		if err := w.value(join(path, name), field); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

// member reads the name of a member, which may come once.
func (w *walker) member(path string, seen map[string]bool) (string, error) {
	token, err := w.dec.Token()
	if err != nil {
		return "", err
	}
	name, _ := token.(string)
	if seen[name] {
		return "", core.InvalidField(join(path, name), "%s is given twice; give it once", join(path, name))
	}
	seen[name] = true
	return name, nil
}

func (w *walker) unknown(path string, fields map[string]reflect.Type) error {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	known := cmp.Or(strings.Join(names, ", "), "none")
	if w.patch {
		return core.InvalidField(path, "%s is not a field that can be changed here; these can: %s", path, known)
	}
	return core.InvalidField(path, "%s is not a known field; known are: %s", path, known)
}

func (w *walker) entries(path string, t reflect.Type, token json.Token) error {
	if token != json.Delim('{') {
		return mismatch(path, "an object with texts as values", token)
	}
	seen := map[string]bool{}
	for w.dec.More() {
		name, err := w.member(path, seen)
		if err != nil {
			return err
		}
		value, err := w.dec.Token()
		if err != nil {
			return err
		}
		if value == nil && w.patch {
			continue // takes the entry away
		}
		if err := scalar(join(path, name), t.Elem(), value); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func (w *walker) list(path string, t reflect.Type, token json.Token) error {
	if token != json.Delim('[') {
		return mismatch(path, "an array", token)
	}
	for i := 0; w.dec.More(); i++ {
		element, err := w.dec.Token()
		if err != nil {
			return err
		}
		if err := scalar(fmt.Sprintf("%s[%d]", path, i), t.Elem(), element); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func scalar(path string, t reflect.Type, token json.Token) error {
	number, isNumber := token.(json.Number)
	switch t.Kind() {
	case reflect.String:
		if _, ok := token.(string); !ok {
			return mismatch(path, "a string", token)
		}
	case reflect.Bool:
		if _, ok := token.(bool); !ok {
			return mismatch(path, "true or false", token)
		}
	case reflect.Int, reflect.Int64:
		if _, err := number.Int64(); !isNumber || err != nil {
			return mismatch(path, "a whole number", token)
		}
	case reflect.Float64:
		if _, err := number.Float64(); !isNumber || err != nil {
			return mismatch(path, "a number", token)
		}
	}
	return nil
}

func duration(path string, token json.Token) error {
	text, ok := token.(string)
	if ok {
		if _, err := time.ParseDuration(text); err == nil {
			return nil
		}
	}
	return mismatch(path, `a duration with its unit, such as "30s" or "1h30m"`, token)
}

func instant(path string, token json.Token) error {
	text, ok := token.(string)
	if ok {
		if _, err := time.Parse(time.RFC3339, text); err == nil {
			return nil
		}
	}
	return mismatch(path, `an RFC 3339 time, such as "2026-01-31T08:00:00Z"`, token)
}

// mismatch says what should stand at path instead of token. Texts are repeated
// only where their form is what is wrong: elsewhere they may be secrets.
func mismatch(path, want string, token json.Token) error {
	subject := path
	if path == "" {
		subject = "the body"
	}
	var have string
	switch t := token.(type) {
	case nil:
		have = "null"
	case string:
		have = "a string"
		if strings.HasPrefix(want, "a duration") || strings.HasPrefix(want, "an RFC") {
			have = fmt.Sprintf("%.64q", t)
		}
	case bool:
		have = fmt.Sprint(t)
	case json.Number:
		have = fmt.Sprintf("%.64s", t)
	case json.Delim:
		have = map[json.Delim]string{'{': "an object", '[': "an array"}[t]
	}
	return core.InvalidField(path, "%s must be %s, not %s", subject, want, have)
}

// fieldsOf gives the JSON names of a struct's fields, those of embedded structs
// included. Nobody may change the map.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := knownFields.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	fields := readFields(t)
	knownFields.Store(t, fields)
	return fields
}

// knownFields holds what was read of a type: the types of bodies are few, and reading
// one costs more than the body.
var knownFields sync.Map // reflect.Type -> map[string]reflect.Type

func readFields(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.Anonymous && name != "" {
			fields[name] = f.Type
		}
	}
	return fields
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
