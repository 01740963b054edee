package engine

import (
	"context"
	"errors"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/seal"
)

// A receipt needs no caller to be read: its id is the secret (ZStack's clients
// poll without a valid session). It shows only what was answered through it; what
// was asked, and whom to tell, lies sealed, and so does an answer that is given
// once only.

// OpenReceipt makes a receipt, to be worked on by the caller of it, who becomes
// its Holder; one that is Done is stored with its answer. ID, Call, Timeout and
// Keep must be given. Exists when the id is in use.
func (e *Engine) OpenReceipt(ctx context.Context, r core.Receipt) (core.Receipt, error) {
	r.Holder = id.Fence()
	row := r
	row.Asked, row.Hook = e.sealBytes(r.Asked), e.sealBytes(r.Hook)
	made, err := e.store.OpenReceipt(ctx, row)
	r.Created, r.Ended = made.Created, made.Ended
	return r, err
}

// TakeReceipt makes the caller the Holder of an unfinished receipt, if nobody else
// holds it. Unavailable when this process cannot open what is sealed; it is given
// back then, for one that can.
func (e *Engine) TakeReceipt(ctx context.Context, receipt string) (r core.Receipt, ok bool, err error) {
	r, ok, err = e.store.TakeReceipt(ctx, receipt, id.Fence())
	if err != nil || !ok {
		return r, ok, err
	}
	open, err := e.openReceipt(r)
	if err != nil {
		return r, false, errors.Join(err, e.store.LeaveReceipt(ctx, r, core.ReceiptLease))
	}
	return open, true, nil
}

func (e *Engine) openReceipt(r core.Receipt) (core.Receipt, error) {
	for _, part := range []*[]byte{&r.Asked, &r.Hook, &r.Body} {
		if !seal.Sealed(string(*part)) {
			continue
		}
		plain, err := e.box.Open(string(*part))
		if err != nil {
			return r, core.Wrap(core.Unavailable, err, "receipt %s is sealed and this process cannot open it; set api.secretKey to the key it was sealed with", r.ID)
		}
		*part = []byte(plain)
	}
	return r, nil
}

// KeepReceipt renews the lease of a receipt's Holder for core.ReceiptLease. Stale
// when another one holds it.
func (e *Engine) KeepReceipt(ctx context.Context, r core.Receipt) error {
	return e.store.KeepReceipt(ctx, r)
}

// CloseReceipt stores the answer, OK and Body, and keeps it for Keep. Stale when
// another one holds the receipt or has answered, NotFound when it is forgotten.
func (e *Engine) CloseReceipt(ctx context.Context, r core.Receipt) error {
	if r.Secret && r.OK {
		r.Body = e.sealBytes(r.Body)
	}
	return e.store.CloseReceipt(ctx, r)
}

// LeaveReceipt gives a receipt back with its Tries as they are now, to be taken
// after wait. One that is done and has no Hook any more is finished by that.
func (e *Engine) LeaveReceipt(ctx context.Context, r core.Receipt, wait time.Duration) error {
	return e.store.LeaveReceipt(ctx, r, wait)
}

// SpendReceipt gives the answer of a Secret receipt to the first who asks, and
// rest, which takes its place, to all others.
func (e *Engine) SpendReceipt(ctx context.Context, r core.Receipt, rest []byte) ([]byte, error) {
	kept, err := e.store.Receipt(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	open, err := e.openReceipt(kept)
	if err != nil {
		return nil, err
	}
	first, err := e.store.SpendReceipt(ctx, kept, rest)
	if err != nil || !first {
		return rest, err
	}
	return open.Body, nil
}

// DueReceipts gives ids of unfinished receipts that nobody works on, in no order.
func (e *Engine) DueReceipts(ctx context.Context, limit int) ([]string, error) {
	return e.store.DueReceipts(ctx, limit)
}

// Receipt gives a receipt as a client may see it, without what was asked and with
// no Secret answer: that is SpendReceipt's to give. NotFound.
func (e *Engine) Receipt(ctx context.Context, id string) (core.Receipt, error) {
	r, err := e.store.Receipt(ctx, id)
	r.Asked, r.Hook = nil, nil
	if r.Secret && r.OK {
		r.Body = nil
	}
	return r, err
}

func (e *Engine) sealBytes(b []byte) []byte {
	if e.box == nil || len(b) == 0 {
		return b
	}
	return []byte(e.box.Seal(string(b)))
}
