package tracking

import (
	"context"

	"github.com/takt-dev/takt/internal/cbt/volume"
)

// export serves volumes of the machine, which has to be off, writable.
func (w *work) export(ctx context.Context) (any, error) {
	t := w.target()
	_, err := w.volumes.Export(ctx, t, volume.Ask{Volumes: w.o.Volumes, Token: w.o.Token, Force: w.o.Force})
	if err != nil {
		return nil, err
	}
	w.record.Restore, err = w.volumes.Exports(ctx, t)
	w.changed = true
	return nil, err
}

// unexport ends that.
func (w *work) unexport(ctx context.Context) (any, error) {
	left, err := w.volumes.Unexport(ctx, w.target(), volume.Ask{Volumes: w.o.Volumes, Force: w.o.Force})
	if err != nil {
		return nil, err
	}
	w.record.Restore, w.changed = left, true
	return nil, nil
}
