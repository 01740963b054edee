package config

import (
	"reflect"
	"strings"
	"unicode"
)

// A field is one setting of a configuration struct.
type field struct {
	path   string // worker.http.timeout
	help   string
	preset string // the default as text
	secret string // "", "true" or "url"
	value  reflect.Value
	order  int
}

// env is the name of the field's environment variable. A capital letter within
// a name begins a word: secretKey is SECRET_KEY.
func (f *field) env() string {
	return "TAKT_" + strings.ToUpper(words(f.path, "_"))
}

// flag is the field's name on the command line, without the dashes.
func (f *field) flag() string {
	return strings.ToLower(words(f.path, "-"))
}

// words writes a path with sep between all of its words.
func words(path, sep string) string {
	var b strings.Builder
	for _, r := range path {
		switch {
		case r == '.':
			b.WriteString(sep)
		case unicode.IsUpper(r):
			b.WriteString(sep)
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isSwitch reports whether the flag may stand without a value.
func (f *field) isSwitch() bool { return f.value.Kind() == reflect.Bool }

// fieldsOf returns the settings of a struct by path. The struct is addressable.
func fieldsOf(root reflect.Value) map[string]*field {
	fields := map[string]*field{}
	collect(root, "", true, fields)
	return fields
}

// collect adds the settings of v, a section whose path is prefix. presets tells
// whether their defaults hold.
func collect(v reflect.Value, prefix string, presets bool, into map[string]*field) {
	for i := range v.NumField() {
		tag, value := v.Type().Field(i).Tag, v.Field(i)
		name, options, _ := strings.Cut(tag.Get("yaml"), ",")
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if options == "inline" {
			path = prefix
		}
		if value.Kind() == reflect.Struct {
			collect(value, path, presets && tag.Get("default") != "-", into)
			continue
		}
		f := &field{path: path, help: tag.Get("help"), secret: tag.Get("secret"), value: value, order: len(into)}
		if presets {
			f.preset = tag.Get("default")
		}
		into[path] = f
	}
}

// inOrder returns the fields as the structs list them.
func inOrder(fields map[string]*field) []*field {
	sorted := make([]*field, len(fields))
	for _, f := range fields {
		sorted[f.order] = f
	}
	return sorted
}

// paths returns the set of the fields' paths.
func paths(fields map[string]*field) map[string]bool {
	set := map[string]bool{}
	for path := range fields {
		set[path] = true
	}
	return set
}
