package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Bytes is a size, written 1024, 64KiB, 1MiB or 2GiB.
type Bytes int64

// String returns the size in its largest whole unit.
func (b Bytes) String() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

var errBytes = errors.New("want a size such as 65536, 64KiB or 1MiB")

func parseBytes(text string) (Bytes, error) {
	digits, shift := text, 0
	for unit, s := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = rest, s
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 {
		return 0, errBytes
	}
	return Bytes(n << shift), nil
}

var errDuration = errors.New("want a duration such as 30s, 1h30m or 7d")

// parseDuration is time.ParseDuration with days before the rest: 7d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	var days time.Duration
	if head, rest, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil {
			return 0, errDuration
		}
		days, text = time.Duration(n)*24*time.Hour, rest
		if text == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errDuration
	}
	return days + d, nil
}

func formatDuration(d time.Duration) string {
	text := ""
	if days := d / (24 * time.Hour); days > 0 {
		text, d = strconv.Itoa(int(days))+"d", d%(24*time.Hour)
		if d == 0 {
			return text
		}
	}
	rest := d.String()
	if strings.HasSuffix(rest, "m0s") {
		rest = strings.TrimSuffix(rest, "0s")
	}
	if strings.HasSuffix(rest, "h0m") {
		rest = strings.TrimSuffix(rest, "0m")
	}
	return text + rest
}

// setText sets v to what text says. The error says what would be right, not
// what was found, as that may be a secret.
func setText(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *bool:
		return assign(p, text, strconv.ParseBool, "want true or false")
	case *int:
		return assign(p, text, strconv.Atoi, "want a whole number")
	case *time.Duration:
		return assign(p, text, parseDuration, errDuration.Error())
	case *Bytes:
		return assign(p, text, parseBytes, errBytes.Error())
	case *[]string:
		*p = splitList(text)
	case *map[string]int:
		return assign(p, text, parseWeights, "want name=number,name=number")
	case *[]Command:
		return assign(p, text, parseList[Command], "want a YAML list such as [{path: /bin/true}]")
	case *[]CBTMachine:
		return assignList(p, text, "want a YAML list such as [{uuid: …, disks: [{volume: …, path: …, format: qcow2}]}]")
	case *[]CBTVolume:
		return assignList(p, text, "want a YAML list such as [{volume: …, path: …, format: raw}]")
	default:
		panic(fmt.Sprintf("config: no text form for %T", p))
	}
	return nil
}

func assign[V any](p *V, text string, parse func(string) (V, error), want string) error {
	value, err := parse(text)
	if err != nil {
		return errors.New(want)
	}
	*p = value
	return nil
}

// assignList tells besides what was wrong, since such lists are long and hold no secret.
func assignList[V any](p *[]V, text, want string) error {
	list, err := parseList[V](text)
	if err != nil {
		reason := typeName.ReplaceAllString(strings.Join(strings.Fields(err.Error()), " "), "")
		return fmt.Errorf("%s: %s", want, strings.TrimPrefix(reason, "yaml: "))
	}
	*p = list
	return nil
}

// typeName is how the YAML package names a struct of ours.
var typeName = regexp.MustCompile(` in type config\.\w+`)

func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

func parseWeights(text string) (map[string]int, error) {
	weights := map[string]int{}
	for _, item := range splitList(text) {
		name, number, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil {
			return nil, err
		}
		weights[strings.TrimSpace(name)] = n
	}
	return weights, nil
}

// parseList reads a YAML list of structs, without keys that they do not have.
func parseList[V any](text string) (list []V, err error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if text == "" {
		return nil, nil
	}
	return list, decoder.Decode(&list)
}

// textOf returns the value in the form setText reads.
func textOf(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case []string:
		return strings.Join(value, ",")
	case map[string]int:
		var items []string
		for _, name := range slices.Sorted(maps.Keys(value)) {
			items = append(items, fmt.Sprintf("%s=%d", name, value[name]))
		}
		return strings.Join(items, ",")
	default:
		return fmt.Sprint(value)
	}
}
