package redisconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	// foldMost bounds the items of one script: Redis does nothing else meanwhile.
	foldMost = 64
	// foldWire bounds the callers whose items go in one sending.
	foldWire = 512
	// foldTries is enough for a script that Redis does not know and that then fails
	// by one of its items.
	foldTries = 3
)

// A Fold is group commit for scripts: what goroutines ask of the same script and
// key at about the same time is done in one call of it, and all calls that are due
// travel in one pipeline. Each caller waits for the answer to its own item, as if
// it had run the script alone; most of what a script costs Redis is the call, and
// most of what it costs the caller is the round trip.
//
// A script that can be folded takes any number of items of equal length in ARGV,
// does them in turn, and returns a list with one answer for each. Doing an item
// again has to be harmless.
//
// A Fold works on every kind of client.
type Fold struct {
	client  redis.UniversalClient
	relay   relay[[]*folded]
	inOrder bool // one server does all commands of a pipeline
}

// NewFold returns a Fold on a client that the caller closes.
func NewFold(client redis.UniversalClient) *Fold {
	_, one := client.(*redis.Client)
	return &Fold{client: client, inOrder: one}
}

// A folded item, and its answer.
type folded struct {
	script *redis.Script // nil: the value of the key is read
	keys   []string
	args   []any
	alone  bool // the script is not one that can be folded
	behind bool // it goes behind all that does not
	parts  int  // items of the script that this one stands for; its answer is their list. 0 = one
	reply  any
	err    error
}

// sameCall reports whether two items can go in one call.
func (f *folded) sameCall(g *folded) bool {
	if f.script == nil {
		return g.script == nil && f.keys[0] == g.keys[0]
	}
	alike := len(f.args) == len(g.args) || f.parts > 0 && g.parts > 0
	return !f.alone && !g.alone && f.behind == g.behind && f.script == g.script && alike && slices.Equal(f.keys, g.keys)
}

// size is the number of items of the script.
func (f *folded) size() int { return max(f.parts, 1) }

var errFoldBroken = errors.New("shared pipeline broke off")

// Run has one item done and returns its answer. ctx can take the item back until
// it is sent; then the answer is awaited, up to the client's timeouts, and where the
// item went alone up to ctx's deadline.
func (f *Fold) Run(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	item := &folded{script: script, keys: keys, args: args, err: errFoldBroken}
	if err := f.do(ctx, []*folded{item}); err != nil {
		return nil, err
	}
	return item.reply, item.err
}

// Call runs a script that cannot be folded. It shares the pipeline, not the call. It
// takes along what a Gather has put behind it.
func (f *Fold) Call(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	item := &folded{script: script, keys: keys, args: args, alone: true, err: errFoldBroken}
	if err := f.do(ctx, append([]*folded{item}, f.along(ctx)...)); err != nil {
		return nil, err
	}
	return item.reply, item.err
}

// Get gives the values of keys, "" for those that do not exist. Callers that ask at
// the same time share one answer, which is never older than their question.
func (f *Fold) Get(ctx context.Context, keys ...string) ([]string, error) {
	all, items := make([]folded, len(keys)), make([]*folded, len(keys))
	for i := range keys {
		all[i] = folded{keys: keys[i : i+1 : i+1], err: errFoldBroken}
		items[i] = &all[i]
	}
	if err := f.do(ctx, items); err != nil {
		return nil, err
	}
	values := make([]string, len(keys))
	for i, item := range items {
		if item.err != nil {
			return nil, item.err
		}
		values[i], _ = item.reply.(string)
	}
	return values, nil
}

// do has items done together with those of others.
func (f *Fold) do(ctx context.Context, items []*folded) error {
	return f.relay.do(ctx, items, foldWire, func(all [][]*folded) {
		if len(all) > 1 {
			ctx = context.WithoutCancel(ctx) // it is not only ours
		}
		f.send(ctx, inTurn(slices.Concat(all...)))
	})
}

// send does items of any scripts and keys.
func (f *Fold) send(ctx context.Context, items []*folded) {
	calls := byCall(items)
	for range foldTries {
		f.exec(ctx, calls)
		again := f.again(ctx, calls)
		if len(again) == 0 {
			return
		}
		overtake(calls, again)
		calls = again
	}
}

// again gives the calls to be made once more: those whose script Redis did not
// know, and, item by item, those that failed by an error of the script itself,
// which one item may have caused.
func (f *Fold) again(ctx context.Context, calls [][]*folded) [][]*folded {
	var again [][]*folded
	for _, call := range calls {
		switch err := call[0].err; {
		case err == nil:
		case call[0].script == nil:
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			// Loading is no reason to fail: the load's own error will tell.
			_ = call[0].script.Load(ctx, f.client).Err()
			again = append(again, call)
		case len(call) > 1 && isScriptError(err):
			for _, item := range call {
				again = append(again, []*folded{item})
			}
		}
	}
	return again
}

// isScriptError reports whether a script failed by itself: what its items are may
// be the reason. From Redis 7 on a command that fails in a script keeps the word
// that its error begins with. (redis.HasErrorPrefix would not find ERR: it takes it off.)
func isScriptError(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	text := reply.Error()
	return (strings.HasPrefix(text, "ERR ") || strings.HasPrefix(text, "WRONGTYPE ")) && strings.Contains(text, "script")
}

// byCall groups items by script and keys, in the order in which they came.
func byCall(items []*folded) [][]*folded {
	var out [][]*folded
	var sizes []int
next:
	for _, item := range items {
		for i := len(out) - 1; i >= 0; i-- {
			if (sizes[i]+item.size() <= foldMost || item.script == nil) && out[i][0].sameCall(item) {
				out[i], sizes[i] = append(out[i], item), sizes[i]+item.size()
				continue next
			}
		}
		out, sizes = append(out, []*folded{item}), append(sizes, item.size())
	}
	return out
}

// exec makes the calls in one pipeline and answers their items.
func (f *Fold) exec(ctx context.Context, calls [][]*folded) {
	pipe := f.client.Pipeline()
	cmds := make([]redis.Cmder, len(calls))
	for i, call := range calls {
		if call[0].script == nil {
			cmds[i] = pipe.Get(ctx, call[0].keys[0])
			continue
		}
		args := make([]any, 0, len(call)*len(call[0].args))
		for _, item := range call {
			args = append(args, item.args...)
		}
		cmds[i] = call[0].script.EvalSha(ctx, pipe, call[0].keys, args...)
	}
	_, err := pipe.Exec(ctx)
	if err != nil && hasOwnError(cmds) {
		err = nil // each command has its own; else the connection was refused
	}
	for i, call := range calls {
		answer(call, cmds[i], err)
	}
}

func answer(call []*folded, cmd redis.Cmder, err error) {
	if err == nil {
		err = cmd.Err()
	}
	switch cmd := cmd.(type) {
	case *redis.StringCmd:
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		for _, item := range call {
			item.reply, item.err = cmd.Val(), err
		}
	case *redis.Cmd:
		answerScript(call, cmd, err)
	}
}

func answerScript(call []*folded, cmd *redis.Cmd, err error) {
	if call[0].alone {
		call[0].reply, call[0].err = cmd.Val(), err
		return
	}
	list, _ := cmd.Val().([]any)
	want := 0
	for _, item := range call {
		want += item.size()
	}
	if err == nil && len(list) != want {
		err = fmt.Errorf("script gave %d answers to %d items", len(list), want)
	}
	for _, item := range call {
		item.err = err
		if err != nil {
			continue
		}
		if item.reply = list[0]; item.parts > 0 {
			item.reply = list[:item.parts:item.parts]
		}
		list = list[item.size():]
	}
}

// hasOwnError reports whether a command has an error of its own. When a connection
// is refused (wrong password, still loading, too many clients) go-redis leaves the
// commands of a pipeline without: each would look like a success.
func hasOwnError(cmds []redis.Cmder) bool {
	return slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil })
}
