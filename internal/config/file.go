package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// readFile applies a YAML file. Its sections are walked by hand, as the YAML
// package's own strictness names Go types and not keys.
func (r *reader) readFile(name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("read configuration: %w", err))
		return
	}
	var document, further yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) { // which an empty file gives
		r.errs = append(r.errs, fmt.Errorf("%s: %w", name, err))
		return
	}
	if len(document.Content) > 0 {
		r.readSection(name, "", document.Content[0])
	}
	switch err := decoder.Decode(&further); {
	case err == nil:
		r.fileError(name, &further, "another document begins here (---): a configuration is one")
	case !errors.Is(err, io.EOF):
		r.errs = append(r.errs, fmt.Errorf("%s: %w", name, err))
	}
}

func (r *reader) readSection(file, prefix string, section *yaml.Node) {
	section = resolved(section)
	if section.Tag == "!!null" {
		return
	}
	if section.Kind != yaml.MappingNode {
		r.fileError(file, section, "%s: want a section of settings here", strings.TrimSuffix(prefix, "."))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(section.Content); i += 2 {
		key, value := section.Content[i], resolved(section.Content[i+1])
		path := prefix + key.Value
		switch {
		case seen[path]:
			r.fileError(file, key, "key %s stands twice", path)
		case r.fields[path] != nil:
			r.setNode(path, value, fmt.Sprintf("%s:%d", file, key.Line))
		case r.isSection(path):
			r.readSection(file, path+".", value)
		default:
			r.fileError(file, key, "unknown key %s%s", path, didYouMean("", path, r.siblings(prefix)))
		}
		seen[path] = true
	}
}

func (r *reader) fileError(file string, at *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s", file, at.Line, fmt.Sprintf(format, args...)))
}

// resolved follows an alias to what it stands for.
func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func (r *reader) isSection(path string) bool {
	for known := range r.fields {
		if strings.HasPrefix(known, path+".") {
			return true
		}
	}
	return false
}

// siblings returns the paths of the keys and sections right below prefix.
func (r *reader) siblings(prefix string) (list []string) {
	for known := range r.fields {
		if rest, ok := strings.CutPrefix(known, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(list, prefix+name) {
				list = append(list, prefix+name)
			}
		}
	}
	return list
}

// setNode gives a setting the value of a YAML node: the text form of a scalar,
// or a YAML list or map where the setting is one.
func (r *reader) setNode(path string, node *yaml.Node, source string) {
	if !r.own[path] || node.Tag == "!!null" {
		return
	}
	if node.Kind == yaml.ScalarNode {
		r.set(path, node.Value, source)
		return
	}
	f := r.fields[path]
	if err := decodeNode(f.value, node); err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w (%s)", path, err, source))
		return
	}
	if isZero(f.value) {
		f.value.SetZero() // an empty list is none
	}
	r.sources[path] = source
}

// decodeNode sets v to a YAML list or map.
func decodeNode(v reflect.Value, node *yaml.Node) error {
	switch p := v.Addr().Interface().(type) {
	case *[]string:
		if err := node.Decode(p); err != nil {
			return errors.New("want a list of texts")
		}
	case *map[string]int:
		if err := node.Decode(p); err != nil {
			return errors.New("want a map of names to whole numbers")
		}
	case *[]Command, *[]CBTMachine, *[]CBTVolume:
		text, err := yaml.Marshal(node)
		if err != nil {
			return err
		}
		return setText(v, string(text))
	default:
		return errors.New("want a single value, not a list or a map")
	}
	return nil
}
