package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Accounts and all that hangs on them are few and stay small: they share one
// hash tag, so that a script can change an account and end its sessions.
const (
	accountsKey = "takt:{acc}:accounts" // hash uuid -> JSON
	namesKey    = "takt:{acc}:names"    // hash lower-case name -> uuid
)

var (
	newAccountScript = script("newaccount")
	setAccountScript = script("setaccount")
)

// CreateAccount adds an account. It returns an Exists error when the uuid, or
// the name in any case of its letters, is taken; Field says which.
func (s *Store) CreateAccount(ctx context.Context, a core.Account) error {
	row, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode account: %w", err)
	}
	keys := []string{accountsKey, namesKey}
	n, err := newAccountScript.Run(ctx, s.rdb, keys, a.UUID, strings.ToLower(a.Name), row).Int()
	switch {
	case err != nil:
		return unavailable("create account", err)
	case n == 0:
		return &core.Error{Kind: core.Exists, Field: "name", Text: fmt.Sprintf("there is an account with the name %q already", a.Name)}
	case n < 0:
		return &core.Error{Kind: core.Exists, Field: "uuid", Text: fmt.Sprintf("there is an account with uuid %q already", a.UUID)}
	}
	return nil
}

// Account returns an account by its uuid.
func (s *Store) Account(ctx context.Context, uuid string) (core.Account, error) {
	_, a, err := s.readAccount(ctx, uuid)
	return a, err
}

// AccountByName returns an account by its name in any case of its letters. To
// find nothing takes as long as to find one.
func (s *Store) AccountByName(ctx context.Context, name string) (core.Account, error) {
	uuid, err := s.rdb.HGet(ctx, namesKey, strings.ToLower(name)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return core.Account{}, unavailable("read account name", err)
	}
	// No account has the uuid "", which an unknown name leaves: it is read all
	// the same, so that the time of the answer does not tell names.
	_, a, err := s.readAccount(ctx, uuid)
	if core.Is(err, core.NotFound) {
		return core.Account{}, core.Errorf(core.NotFound, "there is no account with the name %q", name)
	}
	return a, err
}

// ListAccounts returns all accounts, sorted by name.
func (s *Store) ListAccounts(ctx context.Context) ([]core.Account, error) {
	rows, err := s.rdb.HVals(ctx, accountsKey).Result()
	if err != nil {
		return nil, unavailable("list accounts", err)
	}
	list := make([]core.Account, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal([]byte(row), &list[i]); err != nil {
			return nil, fmt.Errorf("read account: %w", err)
		}
	}
	slices.SortFunc(list, func(a, b core.Account) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.UUID, b.UUID))
	})
	return list, nil
}

// UpdateAccount stores what change makes of an account, and returns that.
// change is called again when another update came between, or the reply to this
// one was lost; its error ends the update and is returned as it is. Uuid and name cannot be changed.
func (s *Store) UpdateAccount(ctx context.Context, uuid string, change func(*core.Account) error) (core.Account, error) {
	return s.updateAccount(ctx, uuid, change, "")
}

// UpdateAndSignOut is UpdateAccount that ends all sessions of the account in
// the same script.
func (s *Store) UpdateAndSignOut(ctx context.Context, uuid string, change func(*core.Account) error) (core.Account, error) {
	return s.updateAccount(ctx, uuid, change, sessionPrefix)
}

// updateAccount retries until no other update comes between; each round that
// fails is one that another update has won.
func (s *Store) updateAccount(ctx context.Context, uuid string, change func(*core.Account) error, ending string) (core.Account, error) {
	for {
		before, a, err := s.readAccount(ctx, uuid)
		if err != nil {
			return core.Account{}, err
		}
		name := a.Name
		if err := change(&a); err != nil {
			return core.Account{}, err
		}
		if a.UUID != uuid || a.Name != name {
			return core.Account{}, core.InvalidField("name", "uuid and name of an account cannot be changed")
		}
		after, err := json.Marshal(a)
		if err != nil {
			return core.Account{}, fmt.Errorf("encode account: %w", err)
		}
		keys := []string{accountsKey, sessionsOf(uuid)}
		n, err := setAccountScript.Run(ctx, s.rdb, keys, uuid, before, after, ending).Int()
		if err != nil {
			return core.Account{}, unavailable("update account", err)
		}
		if n == 1 {
			return a, nil
		}
	}
}

// readAccount returns an account and its row as stored.
func (s *Store) readAccount(ctx context.Context, uuid string) (string, core.Account, error) {
	row, err := s.rdb.HGet(ctx, accountsKey, uuid).Result()
	if errors.Is(err, redis.Nil) {
		return "", core.Account{}, core.Missing("account", uuid)
	}
	if err != nil {
		return "", core.Account{}, unavailable("read account", err)
	}
	var a core.Account
	if err := json.Unmarshal([]byte(row), &a); err != nil {
		return "", core.Account{}, fmt.Errorf("read account %s: %w", uuid, err)
	}
	return row, a, nil
}
