package shell

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/takt-dev/takt/pkg/executor"
)

// TypeName is the job type that this package executes.
const TypeName = "shellCommand"

const defaultMaxOutput = 16 << 10

// Names of parameters.
const (
	paramArgv      = "argv"
	paramEnv       = "env"
	paramDir       = "dir"
	paramStdin     = "stdin"
	paramExpect    = "expect"
	paramMaxOutput = "maxOutput"
)

// Spec describes the type. Its Check knows no policy, so that an API process
// refuses a malformed command when the job is created; whether the command is
// allowed is known only to the worker.
func Spec() executor.Spec {
	return executor.Spec{
		Type:        TypeName,
		Description: "Runs a command that the worker's configuration allows and succeeds if its exit code is an expected one.",
		Parameters: []executor.Parameter{
			{Name: paramArgv, Kind: executor.StringList, Required: true, Description: `Program and arguments as a JSON array; the program by its absolute path or the name of an allowed one. No shell reads them: ["/usr/bin/rsync","-a","/src","/dst"].`},
			{Name: paramEnv, Kind: executor.StringMap, Secret: true, Description: "Environment variables that the worker's configuration lets a job set."},
			{Name: paramDir, Kind: executor.String, Description: "Absolute working directory within a root of the worker's configuration. Default: the first root."},
			{Name: paramStdin, Kind: executor.String, Secret: true, Description: "Text for the standard input. Default: none."},
			{Name: paramExpect, Kind: executor.IntList, Default: "[0]", Description: "Exit codes that count as success."},
			{Name: paramMaxOutput, Kind: executor.Integer, Default: fmt.Sprint(defaultMaxOutput), Description: "Bytes kept from the end of the standard output and of the standard error each, at most 65536."},
		},
		Check: func(parameters map[string]string) error {
			_, err := parse(parameters)
			return err
		},
	}
}

// A command is what the parameters ask for.
type command struct {
	argv      []string
	env       map[string]string
	dir       string
	stdin     string
	expect    []int64
	maxOutput int
}

// parse reads the parameters; errors are *executor.ParameterError.
func parse(parameters map[string]string) (command, error) {
	c := command{stdin: parameters[paramStdin]}
	steps := []struct {
		name string
		read func(value string) error
	}{
		{paramArgv, c.readArgv},
		{paramEnv, c.readEnv},
		{paramDir, c.readDir},
		{paramExpect, c.readExpect},
		{paramMaxOutput, c.readMaxOutput},
	}
	for _, s := range steps {
		if err := s.read(parameters[s.name]); err != nil {
			return command{}, &executor.ParameterError{Parameter: s.name, Reason: err.Error()}
		}
	}
	return c, nil
}

func (c *command) readArgv(value string) (err error) {
	if c.argv, err = executor.ParseStringList(value); err != nil {
		return err
	}
	if len(c.argv) == 0 || c.argv[0] == "" {
		return errors.New("names no program")
	}
	if slices.ContainsFunc(c.argv, holdsNull) {
		return errors.New("holds a null byte")
	}
	program := c.argv[0]
	if strings.Contains(program, "/") && (!path.IsAbs(program) || path.Clean(program) != program) {
		return fmt.Errorf("%.200q is neither a clean absolute path nor the name of a program", program)
	}
	return nil
}

var envName = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]*\z`)

func (c *command) readEnv(value string) (err error) {
	if value == "" {
		return nil
	}
	if c.env, err = executor.ParseStringMap(value); err != nil {
		return err
	}
	for name, v := range c.env {
		if !envName.MatchString(name) {
			return fmt.Errorf("%.64q is not the name of an environment variable", name)
		}
		if holdsNull(v) {
			return fmt.Errorf("the value of %s holds a null byte", name)
		}
	}
	return nil
}

func (c *command) readDir(value string) error {
	c.dir = value
	if value != "" && (!path.IsAbs(value) || holdsNull(value)) {
		return fmt.Errorf("%.200q is not an absolute path", value)
	}
	return nil
}

func (c *command) readExpect(value string) (err error) {
	c.expect = []int64{0}
	if value == "" {
		return nil
	}
	c.expect, err = executor.ParseIntList(value)
	outside := func(code int64) bool { return code < 0 || code > 255 }
	if err != nil || len(c.expect) == 0 || slices.ContainsFunc(c.expect, outside) {
		return errors.New("must be a JSON array of exit codes from 0 to 255, such as [0,1]")
	}
	return nil
}

func (c *command) readMaxOutput(value string) error {
	c.maxOutput = defaultMaxOutput
	if value == "" {
		return nil
	}
	n, err := executor.ParseInteger(value)
	if err != nil || n < 0 || n > executor.MaxOutputBytes {
		return fmt.Errorf("must be a number of bytes from 0 to %d", executor.MaxOutputBytes)
	}
	c.maxOutput = int(n)
	return nil
}

func holdsNull(s string) bool { return strings.ContainsRune(s, 0) }
