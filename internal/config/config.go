// Package config reads the settings of Takt's processes.
//
// Each process has one struct: API, Worker, Trigger, Dev. A setting has one
// path, such as worker.http.timeout, and one name in each place it may stand,
// made from the path by rule:
//
//	YAML file    worker: {http: {timeout: 10s}}
//	environment  TAKT_WORKER_HTTP_TIMEOUT=10s
//	flag         --worker-http-timeout=10s
//
// A later place wins: default, file (--config or TAKT_CONFIG), environment,
// flag. A secret may also stand in a file of its own, named by its variable
// with _FILE after it. Lists are separated by commas (a,b), maps are written
// name=number (critical=6,low=1), durations as 30s, 1h30m or 7d, sizes as 64KiB
// or 1MiB.
//
// Reading is strict. A name that nobody knows is an error that tells where it
// stands and what may have been meant; so is a value that cannot be right. All
// processes may share one file and one environment: what belongs to another
// process is read, its names are checked, and it is ignored.
//
// Every setting left out, or set to its zero value, has the default that --help
// shows; no process needs a setting to start on one machine.
package config

import (
	"errors"
	"io"
	"os"
	"reflect"
)

// API is the configuration of the api process.
type API struct {
	Shared      `yaml:",inline"`
	APISettings `yaml:"api"`
}

// Worker is the configuration of the worker process.
type Worker struct {
	Shared         `yaml:",inline"`
	WorkerSettings `yaml:"worker"`
}

// Trigger is the configuration of the trigger process.
type Trigger struct {
	Shared `yaml:",inline"`
}

// Dev is the configuration of "takt dev", which runs the three processes in
// one. It has all settings there are. Redis.URL and NATS.URLs are empty by
// default, which means: start a private one.
type Dev struct {
	Shared      `yaml:",inline"`
	DevSettings `yaml:"dev"`

	API    APISettings    `yaml:"api"`
	Worker WorkerSettings `yaml:"worker"`
}

// A Process is the configuration of one of Takt's processes.
type Process interface {
	API | Worker | Trigger | Dev
}

// command returns how the process is called on the command line, and the
// settings whose default differs for it.
func command[T Process]() (name string, defaults map[string]string) {
	switch any(*new(T)).(type) {
	case API:
		return "api", nil
	case Worker:
		return "worker", nil
	case Trigger:
		return "trigger", nil
	default:
		return "takt dev", map[string]string{"redis.url": "", "nats.urls": ""}
	}
}

// Load reads the configuration of a process from its command line (without the
// program's name), its environment (as os.Environ) and the file they name. exit
// tells that the caller has only asked for text, which is on stdout now, by
// --help or --print-config. The error lists everything that is wrong, one
// problem a line, and holds no secret. also are checks of settings whose form is not
// known here.
func Load[T Process](args, environ []string, stdout io.Writer, also ...func(T) error) (cfg T, exit bool, err error) {
	name, defaults := command[T]()
	own := fieldsOf(reflect.ValueOf(&cfg).Elem())
	var all Dev // has every setting: the schema of what may be named
	r := &reader{fields: fieldsOf(reflect.ValueOf(&all).Elem()), own: paths(own)}

	line, err := r.parseArgs(args)
	if err != nil {
		return cfg, false, err
	}
	if line.help {
		return cfg, true, writeHelp(stdout, name, own, defaults)
	}
	if err := r.readAll(line, environ, defaults); err != nil {
		return cfg, false, err
	}
	for _, f := range own {
		f.value.Set(r.fields[f.path].value)
	}
	wrong := check(&cfg, r.sources)
	for _, c := range also {
		wrong = append(wrong, c(cfg))
	}
	if err := errors.Join(wrong...); err != nil {
		return cfg, false, err
	}
	if line.print {
		return cfg, true, writeYAML(stdout, own)
	}
	return cfg, false, nil
}

// Default returns the configuration of a process for which nothing is set.
func Default[T Process]() T {
	cfg, _, err := Load[T](nil, nil, io.Discard)
	if err != nil {
		panic("config: the defaults are not valid: " + err.Error())
	}
	return cfg
}

// hostname is the default of worker.host.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
