package store

import (
	"context"
	"embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// Scripts, each in lua/<name>.lua with its keys, arguments and returns at the
// head. Run scripts stand on lib.lua, trigger scripts on head.lua and ledger.lua.
var (
	admitScript    = script("lib", "admit")
	planScript     = script("lib", "plan")
	expandScript   = script("lib", "expand")
	beginScript    = script("lib", "begin")
	finishScript   = script("lib", "finish")
	moveScript     = script("lib", "move")
	cancelScript   = script("lib", "cancel")
	forgetScript   = script("lib", "forget")
	dropPlanScript = script("lib", "dropplan")

	appendLogScript = script("head", "appendlog")
	tallyScript     = script("tally")

	putScript       = script("put")
	dropJobScript   = script("head", "dropjob")
	dropGroupScript = script("head", "dropgroup")
	claimScript     = script("head", "claim")
	enrollScript    = script("head", "enroll")
	withdrawScript  = script("head", "withdraw")
	unclaimScript   = script("unclaim")
	confirmScript   = script("confirm")
	linkScript      = script("head", "link")
	noteLinkScript  = script("head", "notelink")
	setLinkScript   = script("head", "setlink")

	triggerScript = script("head", "ledger", "trigger")
	advanceScript = script("head", "ledger", "advance")
	lookupScript  = script("head", "ledger", "lookup")
	decideScript  = script("head", "ledger", "decide")
	trimScript    = script("head", "ledger", "trim")
	openScript    = script("head", "ledger", "open")
	pageScript    = script("head", "ledger", "page")
	buryScript    = script("head", "bury")

	cbtPutScript   = script("head", "cbtput")
	cbtMoveScript  = script("head", "cbtmove")
	cbtDropScript  = script("lib", "cbtdrop")
	cbtRestScript  = script("head", "cbtrest")
	cbtClaimScript = script("head", "cbtclaim")
	swapScript     = script("swap")

	beatScript  = script("head", "beat")
	leaseScript = script("lease")

	formatScript = script("format")
)

func script(files ...string) *redis.Script {
	var b strings.Builder
	for _, f := range files {
		src, err := luaFiles.ReadFile("lua/" + f + ".lua")
		if err != nil {
			panic(err) // the files are part of the binary
		}
		b.Write(src)
		b.WriteByte('\n')
	}
	return redis.NewScript(b.String())
}

// call runs a script on the partition of key and gives its reply as a list.
func (s *Store) call(ctx context.Context, sc *redis.Script, key string, args ...any) ([]any, error) {
	v, err := sc.Run(ctx, s.rdb, []string{key}, args...).Result()
	if err != nil {
		return nil, err
	}
	if list, ok := v.([]any); ok {
		return list, nil
	}
	return []any{v}, nil
}

// exec sends a pipeline of reads. That something is not there is no error; any
// other error is found behind it too, which Pipeline.Exec gives up for the first.
func exec(ctx context.Context, pipe redis.Pipeliner) error {
	cmds, err := pipe.Exec(ctx)
	if !isNil(err) {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !isNil(err) {
			return err
		}
	}
	return nil
}

// reply reads the elements of a script's reply.
type reply []any

// replyOf reads the answer to one item of a folded script.
func replyOf(v any) reply {
	list, _ := v.([]any)
	return list
}

func (r reply) text(i int) string {
	if i >= len(r) {
		return ""
	}
	switch v := r[i].(type) {
	case string:
		return v
	case int64:
		return fmt.Sprint(v)
	}
	return ""
}

func (r reply) number(i int) int64 {
	if i >= len(r) {
		return 0
	}
	n, _ := r[i].(int64)
	return n
}

// texts gives the elements from the i-th on.
func (r reply) texts(i int) []string {
	var out []string
	for ; i < len(r); i++ {
		out = append(out, r.text(i))
	}
	return out
}

// numbers reads whole numbers with bars between them.
func numbers(text string, count int) ([]int64, error) {
	fields := strings.Split(text, "|")
	if len(fields) != count {
		return nil, fmt.Errorf("reply %q has %d numbers, want %d", text, len(fields), count)
	}
	out := make([]int64, count)
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reply %q: %w", text, err)
		}
		out[i] = n
	}
	return out, nil
}

func (r reply) list(i int) []string {
	if i >= len(r) {
		return nil
	}
	inner, _ := r[i].([]any)
	out := make([]string, len(inner))
	for k := range inner {
		out[k] = reply(inner).text(k)
	}
	return out
}
