//go:build !linux

package trigger

import "time"

// An exactTimer is known for Linux only.
type exactTimer struct{ rung chan struct{} }

func newExactTimer() *exactTimer { return nil }

func (*exactTimer) set(time.Duration) {}

func (*exactTimer) close() {}
