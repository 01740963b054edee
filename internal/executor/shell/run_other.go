//go:build !linux && !darwin

package shell

import (
	"context"
	"fmt"
	"runtime"

	"github.com/takt-dev/takt/pkg/executor"
)

// run refuses: process groups, which cancel needs, are those of Unix.
func (p process) run(context.Context) (*ending, error) {
	return nil, executor.Permanent(fmt.Errorf("job type %s is not supported on %s", TypeName, runtime.GOOS))
}
