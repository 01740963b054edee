// Command greeter is a Takt worker with one job type of its own, "greet". Start
// it beside an installation, with the same flags as the worker command:
//
//	go run ./examples/greeter --redis-url redis://127.0.0.1:6379 --nats-urls nats://127.0.0.1:4222
//
// and create a job of type "greet" with the parameter name.
package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/takt"
)

func main() { takt.Main(Greet) }

// Greet greets somebody, after a pause if one is asked for.
var Greet = executor.Type{
	Spec: executor.Spec{
		Type:        "greet",
		Description: "Greets somebody.",
		Parameters: []executor.Parameter{
			{Name: "name", Kind: executor.String, Required: true, Description: "whom to greet"},
			{Name: "pause", Kind: executor.Duration, Default: "0s", Description: "how long to think before"},
		},
	},
	Executor: executor.Func(greet),
}

func greet(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	fmt.Fprintf(a.Log, "attempt %d: thinking of %s\n", a.Number, a.Parameters["name"])
	pause, err := time.ParseDuration(cmp.Or(a.Parameters["pause"], "0s"))
	if err != nil {
		return executor.Result{}, executor.Permanent(err)
	}
	select {
	case <-time.After(pause):
		return executor.Result{Output: "hello " + a.Parameters["name"]}, nil
	case <-ctx.Done():
		return executor.Result{}, context.Cause(ctx)
	}
}
