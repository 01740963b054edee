package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Sessions and API tokens are kept by the hash of their text, each as a string
// with a life of its own. Per account an index tells them, to count and to end
// them: for sessions a sorted set (hash by end in ms), for tokens a hash (uuid
// -> hash). An index may for a while name what has expired.
const (
	sessionPrefix = "takt:{acc}:session:"
	tokenPrefix   = "takt:{acc}:token:"
)

func sessionsOf(account string) string { return "takt:{acc}:sessions:" + account }
func tokensOf(account string) string   { return "takt:{acc}:tokens:" + account }

var (
	putSessionScript = script("putsession")
	putTokenScript   = script("puttoken")
)

// PutSession keeps a new session for its life, from s.Created to s.Expires. by
// is the account as it was when its password was checked: the error is Stale
// when the password was changed, or the account disabled, since. It is
// Exhausted, with Field "session", when the account has limit sessions.
func (s *Store) PutSession(ctx context.Context, by core.Account, hash string, session core.Session, limit int) error {
	life := session.Expires.Sub(session.Created)
	n, err := s.putSession(ctx, hash, session, life, strconv.Itoa(limit), by.Password)
	switch {
	case err != nil:
		return unavailable("put session", err)
	case n == 0:
		return &core.Error{Kind: core.Exhausted, Field: "session", Text: fmt.Sprintf("the account has %d sessions already; sign out of one of them first", limit)}
	case n < 0:
		return core.Errorf(core.Stale, "the account was changed meanwhile; sign in again")
	}
	return nil
}

// RenewSession replaces a session and keeps it for life from now on. NotFound
// when it has ended.
func (s *Store) RenewSession(ctx context.Context, hash string, session core.Session, life time.Duration) error {
	n, err := s.putSession(ctx, hash, session, life, "", "")
	if err == nil && n < 0 {
		return core.Errorf(core.NotFound, "there is no such session")
	}
	return unavailable("renew session", err)
}

func (s *Store) putSession(ctx context.Context, hash string, session core.Session, life time.Duration, limit, password string) (int, error) {
	row, err := json.Marshal(session)
	if err != nil {
		return 0, err
	}
	keys := []string{sessionPrefix + hash, sessionsOf(session.Account), accountsKey}
	return putSessionScript.Run(ctx, s.rdb, keys, hash, row, life.Milliseconds(), session.Account, limit, password).Int()
}

// SessionByHash returns a session, without its ID.
func (s *Store) SessionByHash(ctx context.Context, hash string) (core.Session, error) {
	var session core.Session
	err := s.readText(ctx, "session", sessionPrefix+hash, &session)
	return session, err
}

// DeleteSession ends a session; ending one that does not exist is no error.
func (s *Store) DeleteSession(ctx context.Context, hash string) error {
	session, err := s.SessionByHash(ctx, hash)
	if core.Is(err, core.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Del(ctx, sessionPrefix+hash)
		tx.ZRem(ctx, sessionsOf(session.Account), hash)
		return nil
	})
	return unavailable("delete session", err)
}

// CountSessions returns how many sessions an account has.
func (s *Store) CountSessions(ctx context.Context, account string) (int, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	n, err := s.rdb.ZCount(ctx, sessionsOf(account), "("+strconv.FormatInt(now.UnixMilli(), 10), "+inf").Result()
	return int(n), unavailable("count sessions", err)
}

// PutToken keeps a new API token, for ever where t.Expires is zero. Exhausted,
// with Field "token", when its account has limit tokens.
func (s *Store) PutToken(ctx context.Context, hash string, t core.Token, limit int) error {
	row, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode token: %w", err)
	}
	var life time.Duration
	if !t.Expires.IsZero() {
		life = max(t.Expires.Sub(t.Created), time.Millisecond) // 0 is for ever
	}
	keys := []string{tokenPrefix + hash, tokensOf(t.Account)}
	n, err := putTokenScript.Run(ctx, s.rdb, keys, t.UUID, hash, row, life.Milliseconds(), limit, tokenPrefix).Int()
	if err == nil && n == 0 {
		return &core.Error{Kind: core.Exhausted, Field: "token", Text: fmt.Sprintf("the account has %d API tokens already; delete one of them first", limit)}
	}
	return unavailable("put token", err)
}

// TokenByHash returns an API token.
func (s *Store) TokenByHash(ctx context.Context, hash string) (core.Token, error) {
	var t core.Token
	err := s.readText(ctx, "token", tokenPrefix+hash, &t)
	return t, err
}

// ListTokens returns the API tokens of an account, oldest first.
func (s *Store) ListTokens(ctx context.Context, account string) ([]core.Token, error) {
	hashes, err := s.rdb.HVals(ctx, tokensOf(account)).Result()
	if err != nil {
		return nil, unavailable("list tokens", err)
	}
	list := make([]core.Token, 0, len(hashes))
	for _, hash := range hashes {
		t, err := s.TokenByHash(ctx, hash)
		if core.Is(err, core.NotFound) {
			continue // expired, and the index not yet tidied
		}
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b core.Token) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// DeleteToken ends an API token. NotFound when the account has no such token.
func (s *Store) DeleteToken(ctx context.Context, account, uuid string) error {
	hash, err := s.rdb.HGet(ctx, tokensOf(account), uuid).Result()
	if errors.Is(err, redis.Nil) {
		return core.Missing("token", uuid)
	}
	if err != nil {
		return unavailable("read token", err)
	}
	_, err = s.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Del(ctx, tokenPrefix+hash)
		tx.HDel(ctx, tokensOf(account), uuid)
		return nil
	})
	return unavailable("delete token", err)
}

// readText reads the JSON of a session or token into v. NotFound when there is
// none; the text does not name it, for its name is a secret's hash.
func (s *Store) readText(ctx context.Context, noun, key string, v any) error {
	row, err := s.rdb.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return core.Errorf(core.NotFound, "there is no such %s", noun)
	}
	if err != nil {
		return unavailable("read "+noun, err)
	}
	if err := json.Unmarshal(row, v); err != nil {
		return fmt.Errorf("read %s: %w", noun, err)
	}
	return nil
}
