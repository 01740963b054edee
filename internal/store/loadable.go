package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// scripts are all of the store's scripts by the name of their file.
var scripts = map[string]*redis.Script{
	"admit": admitScript, "plan": planScript, "expand": expandScript, "begin": beginScript, "finish": finishScript,
	"move": moveScript, "cancel": cancelScript, "forget": forgetScript, "dropplan": dropPlanScript, "tally": tallyScript, "appendlog": appendLogScript,
	"put": putScript, "dropjob": dropJobScript, "dropgroup": dropGroupScript, "claim": claimScript, "enroll": enrollScript,
	"withdraw": withdrawScript, "unclaim": unclaimScript, "confirm": confirmScript, "link": linkScript,
	"notelink": noteLinkScript, "setlink": setLinkScript,
	"trigger": triggerScript, "advance": advanceScript, "lookup": lookupScript, "decide": decideScript, "trim": trimScript,
	"open": openScript, "page": pageScript, "bury": buryScript, "beat": beatScript, "lease": leaseScript, "format": formatScript,
	"newaccount": newAccountScript, "setaccount": setAccountScript, "putsession": putSessionScript, "puttoken": putTokenScript,
	"receiptopen": receiptOpenScript, "receipttake": receiptTakeScript, "receiptkeep": receiptKeepScript,
	"receiptclose": receiptCloseScript, "receiptleave": receiptLeaveScript, "receiptspend": receiptSpendScript,
	"cbtput": cbtPutScript, "cbtmove": cbtMoveScript, "cbtdrop": cbtDropScript, "cbtrest": cbtRestScript, "cbtclaim": cbtClaimScript, "swap": swapScript,
	"putaccesskey": putAccessKeyScript, "setaccesskey": setAccessKeyScript,
}

// LoadScripts has Redis compile every script of the store and gives their
// number, or the first one that this Redis refuses.
func (s *Store) LoadScripts(ctx context.Context) (int, error) {
	for name, script := range scripts {
		if err := script.Load(ctx, s.rdb).Err(); err != nil {
			return 0, fmt.Errorf("load script %s: %w", name, err)
		}
	}
	return len(scripts), nil
}
