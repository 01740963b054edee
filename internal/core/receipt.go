package core

import (
	"context"
	"time"
)

// A Receipt stands for an asynchronous request: it holds what was asked until
// that is done, and then the answer, which a client polls by the receipt's id.
// The id is never a run's. Any replica answers, and any replica finishes what
// another one has left.
//
//	open ──close──▶ done, hook pending ──told, or given up──▶ done
//	  └──────────────────close, no hook─────────────────────▶
//
// Whoever works on a receipt holds it: only its Holder may change it, and a
// holder that does not renew for ReceiptLease may be relieved.
type Receipt struct {
	ID      string `json:"id"`
	Account string `json:"account,omitempty"`
	Call    string `json:"call"` // name of the API call
	// Caller is who asked, as checked when the request came: a session that ends
	// meanwhile changes nothing.
	Caller Caller `json:"caller,omitzero"`
	// Seed names the request for its effects: see Request. It is random, since a
	// client may use an id again once its receipt is forgotten.
	Seed string `json:"seed,omitempty"`
	// Secret says that the answer must be given once only.
	Secret  bool          `json:"secret,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // of the work, from Created
	Keep    time.Duration `json:"keep,omitempty"`    // how long the answer is kept

	// Asked is what is to be done, and Hook whom to tell of the answer, both in
	// the dialect's own form. Asked is dropped with the answer, Hook when told.
	Asked []byte `json:"-"`
	Hook  []byte `json:"-"`

	Holder  string    `json:"-"` // who works on it: given to the holder only
	Created time.Time `json:"-"` // by the store's time
	Lost    int       `json:"-"` // holders that vanished
	Tries   int       `json:"-"` // times the work, or then the telling, was put off
	Done    bool      `json:"-"`
	OK      bool      `json:"-"`
	Body    []byte    `json:"-"` // the dialect's answer, as sent
	Ended   time.Time `json:"-"`
}

// Limits of receipts.
const (
	// ReceiptLease is how long a holder may be silent. With the time between two
	// looks of a replica it makes the time in which a dead one's work goes on.
	ReceiptLease = 5 * time.Second
	// MaxReceiptLost is how many holders a receipt may lose: a request that kills
	// every process must not do so for ever.
	MaxReceiptLost = 10
	// MinHookKeep is how long an answer is kept at least for its hook: longer than
	// all tellings take together.
	MinHookKeep = 10 * time.Minute
)

// A Request names what a context's changes are made for, so that carrying them
// out twice changes things once: what is created gets an id derived from the Key
// and remembers it, and is given as made when it is created again.
type Request struct {
	Key   string
	At    time.Time // when it was asked
	Again bool      // it may have been carried out before, whole or in part
}

type requestKey struct{}

// WithRequest returns a context whose changes are made for a request.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestFrom gives the context's request; the zero Request when there is none.
func RequestFrom(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}
