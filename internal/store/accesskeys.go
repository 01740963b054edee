package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Access keys lie with the accounts, in their hash tag. Their secrets come here
// sealed.
const (
	accessKeysKey   = "takt:{acc}:accesskeys"   // hash uuid -> JSON
	accessKeyIDsKey = "takt:{acc}:accesskeyids" // hash id -> uuid
)

// accessKeysOf is the set of the uuids of an account's keys.
func accessKeysOf(account string) string { return "takt:{acc}:accesskeys:" + account }

var (
	putAccessKeyScript = script("putaccesskey")
	setAccessKeyScript = script("setaccesskey")
)

// PutAccessKey adds an access key. Exists, with Field "uuid" or "id", when that is
// taken; Exhausted, with Field "accessKey", when its account has limit keys.
func (s *Store) PutAccessKey(ctx context.Context, k core.AccessKey, limit int) error {
	row, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode access key: %w", err)
	}
	n, err := putAccessKeyScript.Run(ctx, s.rdb, keysOfAccessKey(k), k.UUID, k.ID, row, limit).Int()
	switch {
	case err != nil:
		return unavailable("put access key", err)
	case n == -1:
		return &core.Error{Kind: core.Exists, Field: "uuid", Text: fmt.Sprintf("there is an access key with uuid %q already", k.UUID)}
	case n == -2:
		return &core.Error{Kind: core.Exists, Field: "id", Text: fmt.Sprintf("there is an access key with the id %q already", k.ID)}
	case n == 0:
		return &core.Error{Kind: core.Exhausted, Field: "accessKey", Text: fmt.Sprintf("the account has %d access keys already; delete one of them first", limit)}
	}
	return nil
}

// AccessKey returns an access key by its uuid.
func (s *Store) AccessKey(ctx context.Context, uuid string) (core.AccessKey, error) {
	_, k, err := s.readAccessKey(ctx, uuid)
	return k, err
}

// AccessKeyByID returns an access key by the id that signed requests name. Ids are
// compared as they are written.
func (s *Store) AccessKeyByID(ctx context.Context, keyID string) (core.AccessKey, error) {
	uuid, err := s.rdb.HGet(ctx, accessKeyIDsKey, keyID).Result()
	if errors.Is(err, redis.Nil) {
		return core.AccessKey{}, core.Errorf(core.NotFound, "there is no access key with the id %q", keyID)
	}
	if err != nil {
		return core.AccessKey{}, unavailable("read access key id", err)
	}
	return s.AccessKey(ctx, uuid)
}

// ListAccessKeys returns the access keys of an account, or of all for "", oldest
// first.
func (s *Store) ListAccessKeys(ctx context.Context, account string) ([]core.AccessKey, error) {
	rows, err := s.accessKeyRows(ctx, account)
	if err != nil {
		return nil, unavailable("list access keys", err)
	}
	list := make([]core.AccessKey, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal([]byte(row), &list[i]); err != nil {
			return nil, fmt.Errorf("read access key: %w", err)
		}
	}
	slices.SortFunc(list, func(x, y core.AccessKey) int { return x.Created.Compare(y.Created) })
	return list, nil
}

func (s *Store) accessKeyRows(ctx context.Context, account string) ([]string, error) {
	if account == "" {
		return s.rdb.HVals(ctx, accessKeysKey).Result()
	}
	uuids, err := s.rdb.SMembers(ctx, accessKeysOf(account)).Result()
	if err != nil || len(uuids) == 0 {
		return nil, err
	}
	values, err := s.rdb.HMGet(ctx, accessKeysKey, uuids...).Result()
	var rows []string
	for _, v := range values {
		if row, ok := v.(string); ok { // else deleted in between
			rows = append(rows, row)
		}
	}
	return rows, err
}

// UpdateAccessKey stores what change makes of an access key, and returns that.
// change is called again when another update came between; its error ends the
// update and is returned as it is. Uuid, id and account cannot be changed.
func (s *Store) UpdateAccessKey(ctx context.Context, uuid string, change func(*core.AccessKey) error) (core.AccessKey, error) {
	for {
		before, k, err := s.readAccessKey(ctx, uuid)
		if err != nil {
			return core.AccessKey{}, err
		}
		read := k
		if err := change(&k); err != nil {
			return core.AccessKey{}, err
		}
		k.UUID, k.ID, k.Account = read.UUID, read.ID, read.Account
		after, err := json.Marshal(k)
		if err != nil {
			return core.AccessKey{}, fmt.Errorf("encode access key: %w", err)
		}
		done, err := s.setAccessKey(ctx, k, before, string(after))
		if done || err != nil {
			return k, err
		}
	}
}

// DeleteAccessKey removes an access key; one that does not exist is no error.
func (s *Store) DeleteAccessKey(ctx context.Context, uuid string) error {
	for {
		before, k, err := s.readAccessKey(ctx, uuid)
		if core.Is(err, core.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		done, err := s.setAccessKey(ctx, k, before, "")
		if done || err != nil {
			return err
		}
	}
}

// setAccessKey reports whether the row was still the one that was read.
func (s *Store) setAccessKey(ctx context.Context, k core.AccessKey, before, after string) (bool, error) {
	n, err := setAccessKeyScript.Run(ctx, s.rdb, keysOfAccessKey(k), k.UUID, k.ID, before, after).Int()
	return n == 1, unavailable("change access key", err)
}

func keysOfAccessKey(k core.AccessKey) []string {
	return []string{accessKeysKey, accessKeyIDsKey, accessKeysOf(k.Account)}
}

// readAccessKey returns an access key and its row as stored.
func (s *Store) readAccessKey(ctx context.Context, uuid string) (string, core.AccessKey, error) {
	row, err := s.rdb.HGet(ctx, accessKeysKey, uuid).Result()
	if errors.Is(err, redis.Nil) {
		return "", core.AccessKey{}, core.Missing("access key", uuid)
	}
	if err != nil {
		return "", core.AccessKey{}, unavailable("read access key", err)
	}
	var k core.AccessKey
	if err := json.Unmarshal([]byte(row), &k); err != nil {
		return "", core.AccessKey{}, fmt.Errorf("read access key %s: %w", uuid, err)
	}
	return row, k, nil
}
