package zstack

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// AccessKeys keeps the keys that sign requests. Package auth implements it; the
// errors are those of auth.Authority.
type AccessKeys interface {
	Signed(ctx context.Context, keyID string, matches func(secret []byte) bool) (core.Caller, error)
	CreateAccessKey(ctx context.Context, n auth.NewAccessKey) (core.AccessKey, error)
	AccessKeys(ctx context.Context) ([]core.AccessKey, error)
	EnableAccessKey(ctx context.Context, uuid string, enabled bool) (core.AccessKey, error)
	DeleteAccessKey(ctx context.Context, uuid string) error
}

const keys noun = "access key"

const (
	accessKeyClass  = "org.zstack.accessKey.AccessKeyInventory"
	createAccessKey = "CreateAccessKey"
)

// accessKeyInventory has the odd names of ZStack's class.
type accessKeyInventory struct {
	UUID            string   `json:"uuid"`
	Description     nullable `json:"description"`
	AccountUUID     string   `json:"accountUuid"`
	UserUUID        string   `json:"userUuid"`
	AccessKeyID     string   `json:"AccessKeyID"`
	AccessKeySecret nullable `json:"AccessKeySecret"` // null but in the answer that creates it
	State           string   `json:"state"`
	CreateDate      stamp    `json:"createDate"`
	LastOpDate      stamp    `json:"lastOpDate"`
}

func (a *API) accessKeyInventory(k core.AccessKey) accessKeyInventory {
	return accessKeyInventory{
		UUID: k.UUID, Description: nullable(k.Description), AccountUUID: k.Owner, UserUUID: k.Account,
		AccessKeyID: k.ID, AccessKeySecret: nullable(k.Secret), State: state(!k.Disabled),
		CreateDate: a.stamp(k.Created), LastOpDate: a.stamp(k.Updated),
	}
}

func accessKeyRef(field, uuid string) ref { return ref{"access key", "AccessKeyVO", field, uuid} }

// createAccessKey serves CreateAccessKey. Without an account the key is the
// caller's own. Its result holds the secret, so it can be fetched once only.
func (a *API) createAccessKey(in *input) operation {
	n := auth.NewAccessKey{
		UUID: in.text("resourceUuid"), Account: in.text("accountUuid"), Description: in.bounded("description", 0, core.MaxDescription),
		ID: in.keyText("AccessKeyID", core.AccessKeyID), Secret: in.keyText("AccessKeySecret", core.AccessKeySecret), Request: in.job,
	}
	if n.UUID != "" && !id.ValidResource(n.UUID) {
		in.fail(badArgument("resourceUuid[%s] is not a valid uuid", excerpt(n.UUID)))
	}
	if user := in.text("userUuid"); user != "" && user != n.Account {
		n.Account, n.Owner = user, n.Account
	}
	if (n.ID == "") != (n.Secret == "") {
		in.fail(badArgument("If a specified Accesskey is expected, the AccesskeyId and the AccesskeySecret must be provided at the same time."))
	}
	return func(ctx context.Context) (answer, error) {
		k, err := a.auth.CreateAccessKey(ctx, n)
		if core.Is(err, core.Exhausted) {
			return answer{}, badArgument("The number of access keys for account[uuid=%s] has exceeded the maximum limit", n.Account)
		}
		if err != nil {
			return answer{}, named(err, ref{"account", "AccountVO", "accountUuid", n.Account})
		}
		return one(accessKeyClass, a.accessKeyInventory(k)), nil
	}
}

// bounded reads a text that has a least and a greatest length, unless it is not
// given.
func (in *input) bounded(name string, least, most int) string {
	s := in.text(name)
	switch n := utf8.RuneCountInString(s); {
	case n > most:
		in.fail(badArgument("field[%s] of message[API%sMsg] exceeds max length of string. expected was <= %d, actual was %d", name, in.call, most, n))
	case s != "" && n < least:
		in.fail(badArgument("field[%s] of message[API%sMsg] less than the min length of string. expected was >= %d, actual was %d", name, in.call, least, n))
	}
	return s
}

// keyText reads an id or a secret that the client has chosen.
func (in *input) keyText(name string, most int) string {
	s := in.bounded(name, core.MinAccessKey, most)
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case strings.Contains(s, ":"):
		in.fail(badArgument("Access key ID and secret cannot contain ':'"))
	case strings.ContainsFunc(s, odd):
		in.fail(badArgument("field[%s] of message[API%sMsg] must be visible ASCII characters", name, in.call))
	}
	return s
}

// deleteAccessKey serves DeleteAccessKey, which succeeds for what is gone.
func (a *API) deleteAccessKey(in *input) operation {
	key := in.doomed(accessKeyRef)
	return func(ctx context.Context) (answer, error) {
		return answer{}, a.auth.DeleteAccessKey(ctx, key)
	}
}

// changeAccessKeyState serves ChangeAccessKeyState.
func (a *API) changeAccessKeyState(in *input) operation {
	key := in.resource("uuid", accessKeyRef, "uuid")
	event := in.choice("stateEvent", "enable", "disable")
	if in.text("stateEvent") == "" {
		in.mandatory("stateEvent")
	}
	return func(ctx context.Context) (answer, error) {
		k, err := a.auth.EnableAccessKey(ctx, key.uuid, event == "enable")
		if err != nil {
			return answer{}, named(err, key)
		}
		return one(accessKeyClass, a.accessKeyInventory(k)), nil
	}
}

// accessKeys gives the inventories of the keys that the caller may see, oldest
// first, or only the one with a uuid.
func (a *API) accessKeys(ctx context.Context, uuid string) ([]any, error) {
	all, err := a.auth.AccessKeys(ctx)
	if uuid != "" {
		all = slices.DeleteFunc(all, func(k core.AccessKey) bool { return k.UUID != uuid })
	}
	out := make([]any, len(all))
	for i, k := range all {
		out[i] = a.accessKeyInventory(k)
	}
	return out, err
}
