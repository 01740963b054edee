package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// A reader fills the settings from all places they may stand in.
type reader struct {
	fields  map[string]*field // of all processes
	own     map[string]bool   // paths of this process
	sources map[string]string // where a path's value came from
	errs    []error
}

// A commandLine is what the arguments say.
type commandLine struct {
	help, print bool
	config      string
	values      []argument
}

// An argument is a flag with its value.
type argument struct {
	field *field
	text  string
}

// parseArgs takes the arguments apart without applying them.
func (r *reader) parseArgs(args []string) (line commandLine, err error) {
	flags := map[string]*field{}
	for path := range r.own {
		flags[r.fields[path].flag()] = r.fields[path]
	}
	for len(args) > 0 {
		var name, text string
		var hasText bool
		if name, text, hasText, err = cutFlag(args[0]); err != nil {
			return line, err
		}
		args = args[1:]
		f := flags[name]
		switch {
		case name == "help" || name == "h":
			return commandLine{help: true}, nil
		case name == "print-config":
			line.print = true
			continue
		case f == nil && name != "config":
			known := append(slices.Collect(maps.Keys(flags)), "config", "print-config", "version", "help")
			return line, fmt.Errorf("unknown flag --%s%s; --help lists all", name, didYouMean("--", name, known))
		case !hasText && f != nil && f.isSwitch():
			text, hasText = "true", true
		}
		if !hasText {
			if len(args) == 0 {
				return line, fmt.Errorf("flag --%s needs a value", name)
			}
			text, args = args[0], args[1:]
		}
		if f == nil {
			line.config = text
		} else {
			line.values = append(line.values, argument{f, text})
		}
	}
	return line, nil
}

// cutFlag reads --name or --name=text; one dash serves too.
func cutFlag(arg string) (name, text string, hasText bool, err error) {
	name, ok := strings.CutPrefix(arg, "-")
	name = strings.TrimPrefix(name, "-")
	if !ok || name == "" {
		return "", "", false, fmt.Errorf("unexpected argument %q; settings are given as --name=value", arg)
	}
	name, text, hasText = strings.Cut(name, "=")
	return name, text, hasText, nil
}

// readAll applies file, environment and flags in this order, then the defaults
// of what is still unset.
func (r *reader) readAll(line commandLine, environ []string, defaults map[string]string) error {
	r.sources = map[string]string{}
	env := map[string]string{}
	for _, entry := range environ {
		if name, text, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, "TAKT_") {
			env[name] = text
		}
	}
	file := env["TAKT_CONFIG"]
	if line.config != "" {
		file = line.config
	}
	if file != "" {
		r.readFile(file)
	}
	r.readEnv(env)
	for _, a := range line.values {
		r.set(a.field.path, a.text, "--"+a.field.flag())
	}
	for path := range r.own {
		r.setDefault(r.fields[path], defaults)
	}
	slices.SortFunc(r.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(r.errs...)
}

// setDefault gives a setting that has its zero value the default.
func (r *reader) setDefault(f *field, defaults map[string]string) {
	preset, ok := defaults[f.path]
	if !ok {
		preset = f.preset
	}
	if f.path == "worker.host" {
		preset = hostname()
	}
	if preset == "" || !isZero(f.value) {
		return
	}
	if err := setText(f.value, preset); err != nil {
		panic("config: default of " + f.path + ": " + err.Error())
	}
	r.sources[f.path] = "default"
}

// isZero counts empty lists and maps as zero too.
func isZero(v reflect.Value) bool {
	return v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

// set gives a setting of this process the value that text says; one of another
// process is left alone.
func (r *reader) set(path, text, source string) {
	if !r.own[path] {
		return
	}
	f := r.fields[path]
	if err := setText(f.value, text); err != nil {
		r.errs = append(r.errs, valueError(f, text, source, err.Error()))
		return
	}
	r.sources[path] = source
}

// valueError names a setting, its value (but no secret), where it stands, and
// what would be right.
func valueError(f *field, text, source, want string) error {
	return fmt.Errorf("%s: %q (%s) is not right: %s", f.path, masked(f.secret, text), source, want)
}

// readEnv applies the environment. An empty variable counts as not set, as
// container tools pass on empty ones for those they do not know.
func (r *reader) readEnv(env map[string]string) {
	known := map[string]*field{}
	files := map[string]*field{}
	for _, f := range r.fields {
		known[f.env()] = f
		if f.secret != "" {
			files[f.env()+"_FILE"] = f
		}
	}
	for name, text := range env {
		switch {
		case name == "TAKT_CONFIG":
		case known[name] != nil:
			if text != "" {
				r.set(known[name].path, text, name)
			}
		case files[name] != nil:
			r.readSecretFile(files[name], name, text, env)
		case !foreign.MatchString(name):
			r.errs = append(r.errs, fmt.Errorf("unknown variable %s%s", name, didYouMean("", name, slices.Collect(maps.Keys(known)))))
		}
	}
}

// foreign matches the variables that Kubernetes sets for a service whose name
// begins with takt: TAKT_API_SERVICE_HOST, TAKT_API_PORT_8080_TCP_ADDR.
var foreign = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// readSecretFile takes a secret from the file that the variable names.
func (r *reader) readSecretFile(f *field, name, path string, env map[string]string) {
	if path == "" || !r.own[f.path] {
		return
	}
	if env[f.env()] != "" {
		r.errs = append(r.errs, fmt.Errorf("%s and %s are both set: use one of them", f.env(), name))
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", name, err))
		return
	}
	r.set(f.path, strings.TrimRight(string(text), "\r\n"), name)
}

// didYouMean returns a hint at the known name nearest to name, or "".
func didYouMean(prefix, name string, known []string) string {
	best, least := "", 4
	slices.Sort(known)
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + prefix + best + "?"
}

// distance is the number of letters to insert, drop or change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
