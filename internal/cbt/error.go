package cbt

import (
	"errors"
	"fmt"
)

// Conditions of the outside. Those of the first group may pass.
var (
	ErrBusy        = errors.New("somebody else is using the monitor or the machine")
	ErrUnreachable = errors.New("the machine's process does not answer")
	// ErrOff is an ErrUnreachable: nobody listens on the monitor. The machine is off, or
	// is being started.
	ErrOff = fmt.Errorf("%w: nobody listens on its monitor", ErrUnreachable)

	ErrNoDisk        = errors.New("the disk is not there")
	ErrNotPersistent = errors.New("the disk cannot keep a bitmap")
	ErrUnsupported   = errors.New("not supported")
	ErrInUse         = errors.New("in use")
	ErrNoSpace       = errors.New("not enough space")
	ErrStale         = errors.New("a younger checkpoint exists")
	ErrSessionGone   = errors.New("the moment cannot be read any more")
	ErrNotAllowed    = errors.New("the path is below none of the configured roots")
)

// Retryable says whether the same call may succeed later without anybody's doing.
func Retryable(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrUnreachable)
}

// Why a chain is broken.
type Why string

const (
	WhyAbsent       Why = "absent"       // it was lost: QEMU was killed, or the files are gone
	WhyInconsistent Why = "inconsistent" // QEMU was killed while it recorded
	WhyDisabled     Why = "disabled"     // somebody stopped it: writes went by unseen
	WhySnapshot     Why = "snapshot"     // writes go to another image since a snapshot
	WhyResized      Why = "resized"      // the disk became smaller
	WhyUnknown      Why = "unknown"      // no such checkpoint is recorded
)

// ChainBroken says that what was written since a checkpoint is not known any
// more. The next copy has to be full, or the disks have to be compared.
type ChainBroken struct {
	Volume string // empty if no single one is to blame
	Seq    int
	Why    Why
}

func (e *ChainBroken) Error() string {
	text := fmt.Sprintf("checkpoint %d is %s", e.Seq, e.Why)
	if e.Volume != "" {
		text += " on volume " + e.Volume
	}
	return text
}
