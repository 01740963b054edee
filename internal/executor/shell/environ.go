package shell

import (
	"maps"
	"os"
	"slices"
	"strings"
)

const (
	// keyVariable tells the command its idempotency key: a step may run twice.
	keyVariable = "TAKT_KEY"
	// markVariable names the execution. What inherited it belongs to the command,
	// whatever session or parent it has by now.
	markVariable = "TAKT_EXECUTION"
)

// environ returns the environment of a command: a fixed PATH and LANG, the
// worker's HOME, what the policy passes on, what the job may set, and Takt's own.
// The error is permanent.
func (p Policy) environ(set map[string]string, key, mark string) ([]string, error) {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/",
		"LANG": "C.UTF-8",
	}
	for _, name := range append([]string{"HOME"}, p.PassEnv...) {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	for name, v := range set {
		if !slices.Contains(p.Env, name) || strings.HasPrefix(name, "TAKT_") {
			return nil, refusef("environment variable %s may not be set on this worker: list it in %s", name, EnvKey)
		}
		env[name] = v
	}
	env[keyVariable] = key
	env[markVariable] = mark
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list, nil
}
