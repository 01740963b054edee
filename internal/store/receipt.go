package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// Receipts are spread over as many partitions as targets are. Each partition has
// an index of its unfinished receipts, written by the scripts that change them, so
// that any replica finds what another one has left.

var (
	receiptOpenScript  = script("head", "receiptopen")
	receiptTakeScript  = script("head", "receipttake")
	receiptKeepScript  = script("head", "receiptkeep")
	receiptCloseScript = script("head", "receiptclose")
	receiptLeaveScript = script("head", "receiptleave")
	receiptSpendScript = script("head", "receiptspend")
)

func receiptRoot(n int) string { return "takt:{r:" + strconv.Itoa(n) + "}" }

func (s *Store) receiptHome(receipt string) string {
	return receiptRoot(id.Partition(receipt, s.opts.Partitions))
}

// OpenReceipt makes a receipt and gives it with the time it was made. One that is
// not done is held by its Holder for core.ReceiptLease. An Exists error means that
// the id is in use.
func (s *Store) OpenReceipt(ctx context.Context, r core.Receipt) (core.Receipt, error) {
	fixed, err := json.Marshal(r)
	if err != nil {
		return r, fmt.Errorf("encode receipt: %w", err)
	}
	args := []any{r.ID, r.Holder, core.ReceiptLease.Milliseconds(), fixed, r.Keep.Milliseconds(), r.Timeout.Milliseconds(), r.Asked, r.Hook}
	if r.Done {
		args = append(args, flag(r.OK), r.Body)
	}
	made, err := s.receipt(ctx, receiptOpenScript, r.ID, args...)
	switch {
	case err != nil:
		return r, unavailable("open receipt", err)
	case made == 0:
		return r, core.Errorf(core.Exists, "receipt %s exists already", r.ID)
	}
	r.Created = fromMillis(made)
	if r.Done {
		r.Ended = r.Created
	}
	return r, nil
}

// TakeReceipt makes a caller the holder of an unfinished receipt that nobody
// holds. ok is false when there is nothing to take.
func (s *Store) TakeReceipt(ctx context.Context, receipt, holder string) (r core.Receipt, ok bool, err error) {
	list, err := s.call(ctx, receiptTakeScript, s.receiptHome(receipt), receipt, holder, core.ReceiptLease.Milliseconds())
	if err != nil {
		return r, false, unavailable("take receipt", err)
	}
	if len(list) == 0 {
		return r, false, nil
	}
	fields := map[string]string{}
	for k := 1; k+1 < len(list); k += 2 {
		fields[reply(list).text(k)] = reply(list).text(k + 1)
	}
	if r, err = receiptOf(fields); err != nil {
		return r, false, fmt.Errorf("read receipt %s: %w", receipt, err)
	}
	r.Holder = holder
	return r, true, nil
}

// KeepReceipt renews its holder's lease. Stale when another one holds it.
func (s *Store) KeepReceipt(ctx context.Context, r core.Receipt) error {
	n, err := s.receipt(ctx, receiptKeepScript, r.ID, r.ID, r.Holder, core.ReceiptLease.Milliseconds())
	return heldResult("renew receipt", n, err, r)
}

// CloseReceipt stores the answer, OK and Body, and keeps it for r.Keep. Stale when
// another one holds the receipt or has closed it, NotFound when it is forgotten.
func (s *Store) CloseReceipt(ctx context.Context, r core.Receipt) error {
	n, err := s.receipt(ctx, receiptCloseScript, r.ID, r.ID, r.Holder, r.Keep.Milliseconds(), flag(r.OK), r.Body, core.MinHookKeep.Milliseconds())
	return heldResult("close receipt", n, err, r)
}

// LeaveReceipt gives a receipt back with the Tries it has now. It may be taken
// after wait, but one that is done and has no Hook any more is finished. Stale as
// KeepReceipt.
func (s *Store) LeaveReceipt(ctx context.Context, r core.Receipt, wait time.Duration) error {
	ms := wait.Milliseconds()
	if r.Done && len(r.Hook) == 0 {
		ms = -1
	}
	n, err := s.receipt(ctx, receiptLeaveScript, r.ID, r.ID, r.Holder, r.Tries, ms)
	return heldResult("leave receipt", n, err, r)
}

// SpendReceipt replaces the answer of a receipt. It reports whether the answer was
// still the one in r: of all who try, one may give it.
func (s *Store) SpendReceipt(ctx context.Context, r core.Receipt, rest []byte) (first bool, err error) {
	n, err := s.receipt(ctx, receiptSpendScript, r.ID, r.ID, r.Body, rest)
	return n == 1, unavailable("spend receipt", err)
}

// DueReceipts gives ids of unfinished receipts that may be taken, at most limit of
// each partition, in no order.
func (s *Store) DueReceipts(ctx context.Context, limit int) ([]string, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	pipe := s.rdb.Pipeline()
	reads := make([]*redis.StringSliceCmd, s.opts.Partitions)
	upTo := strconv.FormatInt(now.UnixMilli(), 10)
	for n := range reads {
		reads[n] = pipe.ZRangeByScore(ctx, receiptRoot(n)+":open", &redis.ZRangeBy{Min: "-inf", Max: upTo, Count: int64(limit)})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read open receipts", err)
	}
	var out []string
	for _, read := range reads {
		out = append(out, read.Val()...)
	}
	// Replicas that look at the same time should not all try the same one first.
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out, nil
}

// Receipt gives a receipt, or a NotFound error when there is none or it expired.
func (s *Store) Receipt(ctx context.Context, receipt string) (core.Receipt, error) {
	fields, err := s.rdb.HGetAll(ctx, s.receiptHome(receipt)+":receipt:"+receipt).Result()
	if err != nil {
		return core.Receipt{}, unavailable("read receipt", err)
	}
	if len(fields) == 0 {
		return core.Receipt{}, core.Missing("receipt", receipt)
	}
	r, err := receiptOf(fields)
	if err != nil {
		return r, fmt.Errorf("read receipt %s: %w", receipt, err)
	}
	return r, nil
}

// receiptOf reads the fields that the scripts write.
func receiptOf(fields map[string]string) (core.Receipt, error) {
	var r core.Receipt
	if err := json.Unmarshal([]byte(fields["fixed"]), &r); err != nil {
		return r, err
	}
	numbers := map[string]int64{}
	for _, name := range []string{"created", "ended", "lost", "tries"} {
		text, ok := fields[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return r, fmt.Errorf("field %s: %w", name, err)
		}
		numbers[name] = n
	}
	r.Created, r.Ended = fromMillis(numbers["created"]), fromMillis(numbers["ended"])
	r.Lost, r.Tries = int(numbers["lost"]), int(numbers["tries"])
	_, r.Done = fields["ended"]
	r.OK = fields["ok"] == "1"
	r.Asked, r.Hook, r.Body = field(fields, "asked"), field(fields, "hook"), field(fields, "body")
	return r, nil
}

// field gives nil for what is not there.
func field(fields map[string]string, name string) []byte {
	if text := fields[name]; text != "" {
		return []byte(text)
	}
	return nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *Store) receipt(ctx context.Context, sc *redis.Script, receipt string, args ...any) (int64, error) {
	return sc.Run(ctx, s.rdb, []string{s.receiptHome(receipt)}, args...).Int64()
}

// heldResult turns what a script that only a holder may call returns into an error.
func heldResult(doing string, n int64, err error, r core.Receipt) error {
	switch {
	case err != nil:
		return unavailable(doing, err)
	case n == 0:
		return core.Errorf(core.Stale, "receipt %s is somebody else's by now", r.ID)
	case n < 0:
		return core.Missing("receipt", r.ID)
	}
	return nil
}
