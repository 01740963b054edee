package process

import (
	"errors"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/executor/shell"
	"github.com/takt-dev/takt/internal/safehttp"
)

// The checks below are for config.Load: of settings whose form another package knows.
// They need no server, so what is wrong shows before any is waited for. The processes
// read the same settings by the same functions when they start.

// CheckAPI says what is wrong with the settings of an api process.
func CheckAPI(cfg config.API) error { return checkAPI(cfg.APISettings) }

// CheckWorker says what is wrong with the settings of a worker process.
func CheckWorker(cfg config.Worker) error { return checkWorker(cfg.WorkerSettings) }

// CheckDev is CheckAPI and CheckWorker for `takt dev`.
func CheckDev(cfg config.Dev) error {
	return errors.Join(checkAPI(cfg.API), checkWorker(cfg.Worker))
}

func checkAPI(s config.APISettings) error {
	_, err := hookPolicy(s)
	return err
}

func checkWorker(s config.WorkerSettings) error {
	_, httpErr := requestPolicy(s)
	_, shellErr := shell.New(commandPolicy(s))
	return errors.Join(httpErr, shellErr)
}

// hookPolicy says which addresses an api may call back.
func hookPolicy(s config.APISettings) (safehttp.Policy, error) {
	p, err := safehttp.ParsePolicyOf(zstack.HookSetting, s.ZStack.WebHookAllow)
	if err != nil {
		return p, core.InvalidField(zstack.HookSetting, "%v", err)
	}
	return p, nil
}

// requestPolicy says which addresses httpRequest may reach.
func requestPolicy(s config.WorkerSettings) (safehttp.Policy, error) {
	p, err := safehttp.ParsePolicy(s.HTTP.Allow)
	if err != nil {
		return p, core.InvalidField(safehttp.AllowKey, "%v", err)
	}
	return p, nil
}

// commandPolicy says what shellCommand may run.
func commandPolicy(s config.WorkerSettings) shell.Policy {
	rules := make([]shell.Rule, len(s.Shell.Allow))
	for i, c := range s.Shell.Allow {
		rules[i] = shell.Rule{Path: c.Path, Args: c.Args}
	}
	return shell.Policy{Rules: rules, Roots: s.Shell.Roots, Env: s.Shell.Env, PassEnv: s.Shell.PassEnv, Grace: s.Shell.Grace}
}
