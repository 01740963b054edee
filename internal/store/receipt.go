package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

func receiptKey(id string) string { return "takt:{r:" + id + "}:receipt" }

// OpenReceipt makes a receipt that is not done. An Exists error means that the id
// is in use.
func (s *Store) OpenReceipt(ctx context.Context, r core.Receipt, keep time.Duration) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode receipt: %w", err)
	}
	fresh, err := s.rdb.SetNX(ctx, receiptKey(r.ID), b, keep).Result()
	if err != nil {
		return unavailable("open receipt", err)
	}
	if fresh {
		return nil
	}
	// Ours when the client repeated a command whose reply was lost.
	if kept, err := s.rdb.Get(ctx, receiptKey(r.ID)).Bytes(); err == nil && bytes.Equal(kept, b) {
		return nil
	}
	return core.Errorf(core.Exists, "Duplicate job uuid[%s]", r.ID)
}

// CloseReceipt stores the answer of a receipt and keeps it.
func (s *Store) CloseReceipt(ctx context.Context, r core.Receipt, keep time.Duration) error {
	r.Done = true
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode receipt: %w", err)
	}
	return unavailable("close receipt", s.rdb.Set(ctx, receiptKey(r.ID), b, keep).Err())
}

// Receipt gives a receipt, or a NotFound error when there is none or it expired.
func (s *Store) Receipt(ctx context.Context, id string) (core.Receipt, error) {
	var r core.Receipt
	b, err := s.rdb.Get(ctx, receiptKey(id)).Bytes()
	if isNil(err) {
		return r, core.Missing("receipt", id)
	}
	if err != nil {
		return r, unavailable("read receipt", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read receipt %s: %w", id, err)
	}
	return r, nil
}
