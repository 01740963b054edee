package shell

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// Configuration keys that errors name.
const (
	AllowKey = "worker.shell.allow"
	RootsKey = "worker.shell.roots"
	EnvKey   = "worker.shell.env"
)

// DefaultGrace is the time between asking a command to end and killing it.
const DefaultGrace = 5 * time.Second

// A Rule allows one program with some arguments.
type Rule struct {
	// Path is the program's absolute path. A job names it by this path or by its
	// last element. Nobody but the operator should be able to write the file.
	Path string `json:"path"`
	// Args holds one regular expression (package regexp) per argument, which has
	// to match the whole of it. If the last one ends with "...", what stands before
	// the dots has to match each of any number of remaining arguments, and "..."
	// alone lets all of them pass. No Args: no arguments.
	Args []string `json:"args"`
}

// A Policy says what jobs may run. The zero Policy allows nothing.
type Policy struct {
	Rules []Rule
	// Roots are the directories in or below which a command may start, symbolic
	// links resolved. They are no sandbox: a command goes where it likes.
	Roots []string
	// Env names the environment variables that a job may set. Some, such as
	// LD_PRELOAD, PATH or BASH_ENV, let a job run whatever it likes.
	Env []string
	// PassEnv names variables of the worker's own environment that commands get.
	PassEnv []string
	// Grace is the time between SIGTERM and SIGKILL; zero is DefaultGrace.
	Grace time.Duration
}

// A rule is a Rule with its patterns compiled.
type rule struct {
	path string
	args []*regexp.Regexp
	rest *regexp.Regexp // nil: no further arguments
}

func compile(rules []Rule) ([]rule, error) {
	compiled := make([]rule, len(rules))
	for i, r := range rules {
		c, err := r.compile()
		if err != nil {
			return nil, fmt.Errorf("compile %s entry %d, %q: %w", AllowKey, i+1, r.Path, err)
		}
		compiled[i] = c
	}
	return compiled, nil
}

func (r Rule) compile() (rule, error) {
	if !filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path {
		return rule{}, errors.New("the path is not a clean absolute one")
	}
	c := rule{path: r.Path}
	for i, pattern := range r.Args {
		each, isRest := strings.CutSuffix(pattern, "...")
		if isRest && i < len(r.Args)-1 {
			return rule{}, fmt.Errorf("argument %d: only the last pattern may end with ...", i+1)
		}
		if isRest && each == "" {
			each = `(?s).*`
		}
		expression, err := whole(each)
		if err != nil {
			return rule{}, fmt.Errorf("argument %d: %w", i+1, err)
		}
		if isRest {
			c.rest = expression
		} else {
			c.args = append(c.args, expression)
		}
	}
	return c, nil
}

// whole compiles a pattern so that it matches a whole text. The pattern is
// compiled alone first, lest it break out of the parentheses.
func whole(pattern string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// names reports whether a job that asks for program means this rule.
func (r rule) names(program string) bool {
	return program == r.path || program == filepath.Base(r.path)
}

// fault returns what is wrong with the arguments, or "".
func (r rule) fault(args []string) string {
	if len(args) < len(r.args) {
		return fmt.Sprintf("it takes %d or more arguments, not %d", len(r.args), len(args))
	}
	for i, arg := range args {
		pattern := r.rest
		if i < len(r.args) {
			pattern = r.args[i]
		}
		if pattern == nil {
			return fmt.Sprintf("it takes %d, not %d arguments", len(r.args), len(args))
		}
		if !pattern.MatchString(arg) {
			return fmt.Sprintf("argument %d, %.64q, does not match", i+1, arg)
		}
	}
	return ""
}

// find returns the path of the program that argv may run: that of the first rule
// that names it and takes its arguments. The error is permanent.
func find(rules []rule, argv []string) (path string, err error) {
	program, args := argv[0], argv[1:]
	reason := ""
	for _, r := range rules {
		if !r.names(program) {
			continue
		}
		fault := r.fault(args)
		if fault == "" {
			return r.path, nil
		}
		reason = fault
	}
	if reason != "" {
		return "", refusef("these arguments of %q are not allowed on this worker: %s; to allow them, change the args of its entry in %s or add another entry",
			program, reason, AllowKey)
	}
	return "", refusef(`program %.200q is not allowed on this worker; to allow it, add to %s an entry such as {"path": %q, "args": ["--flag", "[a-z]+"]}, with one regular expression per argument`,
		program, AllowKey, examplePath(program))
}

func examplePath(program string) string {
	if filepath.IsAbs(program) {
		return program
	}
	return "/path/to/" + program
}

// refusef is fmt.Errorf for what this worker's configuration does not allow: no
// further attempt can mend that.
func refusef(format string, args ...any) error {
	return executor.Permanent(fmt.Errorf(format, args...))
}

// workDir returns the directory in which a command starts, links resolved. One
// that is not allowed is a permanent error, one that is not there may come.
func (p Policy) workDir(dir string) (string, error) {
	if len(p.Roots) == 0 && dir == "" {
		return "/", nil
	}
	if len(p.Roots) == 0 {
		return "", refusef("directory %.200q is not allowed on this worker: list it or one above it in %s", dir, RootsKey)
	}
	if dir == "" {
		dir = p.Roots[0]
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		// Of what lies outside the roots not even the absence is told.
		real = filepath.Clean(dir)
	}
	if !p.within(real) {
		return "", refusef("directory %.200q is outside the worker's %s: %s", dir, RootsKey, strings.Join(p.Roots, ", "))
	}
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	return real, nil
}

// within reports whether a real path lies in or below the real path of a root.
func (p Policy) within(path string) bool {
	return slices.ContainsFunc(p.Roots, func(root string) bool {
		if real, err := filepath.EvalSymlinks(root); err == nil {
			root = real
		}
		rel, err := filepath.Rel(root, path)
		return err == nil && filepath.IsLocal(rel)
	})
}
