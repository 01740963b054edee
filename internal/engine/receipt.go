package engine

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// A receipt needs no caller to be read: its id is the secret (ZStack's clients
// poll without a valid session). It holds only what was answered through it.

// OpenReceipt makes a receipt that any replica answers as not done. Exists when
// the id is in use.
func (e *Engine) OpenReceipt(ctx context.Context, r core.Receipt, keep time.Duration) error {
	now, err := e.store.Now(ctx)
	if err != nil {
		return err
	}
	r.Created = now.UTC()
	return e.store.OpenReceipt(ctx, r, keep)
}

// CloseReceipt stores the answer and keeps it for as long as given.
func (e *Engine) CloseReceipt(ctx context.Context, r core.Receipt, keep time.Duration) error {
	now, err := e.store.Now(ctx)
	if err != nil {
		return err
	}
	r.Done, r.Ended = true, now.UTC()
	return e.store.CloseReceipt(ctx, r, keep)
}

// Receipt gives a receipt, or a NotFound error.
func (e *Engine) Receipt(ctx context.Context, id string) (core.Receipt, error) {
	return e.store.Receipt(ctx, id)
}
