package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

func newAccessKey(account, keyID string) core.AccessKey {
	return core.AccessKey{
		UUID: id.New(), ID: keyID, Account: account, Owner: account, Description: "for tests",
		Secret: "sealed secret of " + keyID, Request: "r", Created: accountBirth, Updated: accountBirth,
	}
}

func mustPutKey(t *testing.T, s *store.Store, k core.AccessKey) core.AccessKey {
	t.Helper()
	if err := s.PutAccessKey(t.Context(), k, 10); err != nil {
		t.Fatalf("put access key %s: %v", k.ID, err)
	}
	return k
}

func TestAccessKeyIsFoundByUUIDAndID(t *testing.T) {
	s, _ := accountStore(t)
	want := mustPutKey(t, s, newAccessKey("ann", "KEY1"))
	mustPutKey(t, s, newAccessKey("ann", "KEY2"))
	for name, read := range map[string]func() (core.AccessKey, error){
		"uuid": func() (core.AccessKey, error) { return s.AccessKey(t.Context(), want.UUID) },
		"id":   func() (core.AccessKey, error) { return s.AccessKeyByID(t.Context(), "KEY1") },
	} {
		got, err := read()
		if err != nil {
			t.Fatalf("access key by %s: %v", name, err)
		}
		wantEqual(t, "access key by "+name, got, want)
	}
	_, err := s.AccessKey(t.Context(), id.New())
	wantErrorKind(t, "unknown uuid", err, core.NotFound)
	_, err = s.AccessKeyByID(t.Context(), "key1")
	wantErrorKind(t, "id in another case", err, core.NotFound)
}

func TestPutAccessKeyRefuses(t *testing.T) {
	s, _ := accountStore(t)
	first := mustPutKey(t, s, newAccessKey("ann", "KEY1"))
	sameUUID := newAccessKey("ann", "KEY2")
	sameUUID.UUID = first.UUID
	for _, tt := range []struct {
		name  string
		k     core.AccessKey
		limit int
		kind  core.Kind
		field string
	}{
		{"uuid taken", sameUUID, 10, core.Exists, "uuid"},
		{"id taken, by another account", newAccessKey("bob", "KEY1"), 10, core.Exists, "id"},
		{"as many as it may", newAccessKey("ann", "KEY2"), 1, core.Exhausted, "accessKey"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.PutAccessKey(t.Context(), tt.k, tt.limit)
			wantErrorKind(t, "put", err, tt.kind)
			var e *core.Error
			if errors.As(err, &e) && e.Field != tt.field {
				t.Errorf("got field %q, want %q", e.Field, tt.field)
			}
		})
	}
	if err := s.PutAccessKey(t.Context(), first, 1); err != nil {
		t.Errorf("put repeated after a lost reply: %v", err)
	}
	mustPutKey(t, s, newAccessKey("ann", "KEY2")) // the refused uuid has left no id behind
}

func TestListAccessKeys(t *testing.T) {
	s, _ := accountStore(t)
	late := newAccessKey("ann", "KEY1")
	late.Created = late.Created.Add(time.Hour)
	mustPutKey(t, s, late)
	early := mustPutKey(t, s, newAccessKey("ann", "KEY2"))
	other := newAccessKey("bob", "KEY3")
	other.Created = other.Created.Add(time.Minute)
	mustPutKey(t, s, other)
	for account, want := range map[string][]core.AccessKey{
		"ann": {early, late}, "bob": {other}, "cy": {}, "": {early, other, late},
	} {
		got, err := s.ListAccessKeys(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, fmt.Sprintf("keys of %q", account), got, want)
	}
}

func TestUpdateAccessKeyLosesNoUpdate(t *testing.T) {
	s, _ := accountStore(t)
	k := mustPutKey(t, s, newAccessKey("ann", "KEY1"))
	const writers, rounds = 6, 8
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for range rounds {
				if _, err := s.UpdateAccessKey(t.Context(), k.UUID, func(k *core.AccessKey) error {
					k.Updated = k.Updated.Add(time.Second)
					k.UUID, k.ID, k.Account = "x", "x", "x"
					return nil
				}); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	done.Wait()
	got, err := s.AccessKeyByID(t.Context(), "KEY1")
	if err != nil {
		t.Fatal(err)
	}
	k.Updated = k.Updated.Add(writers * rounds * time.Second)
	wantEqual(t, "key after all updates", got, k)

	refusal := errors.New("no")
	if _, err := s.UpdateAccessKey(t.Context(), k.UUID, func(*core.AccessKey) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("got error %v, want the one of change", err)
	}
	_, err = s.UpdateAccessKey(t.Context(), id.New(), func(*core.AccessKey) error { return nil })
	wantErrorKind(t, "update of no key", err, core.NotFound)
}

// What is deleted leaves nothing: neither its id nor its place among the account's.
func TestDeleteAccessKey(t *testing.T) {
	s, client := accountStore(t)
	k := mustPutKey(t, s, newAccessKey("ann", "KEY1"))
	for range 2 { // the second finds nothing, which is no error
		if err := s.DeleteAccessKey(t.Context(), k.UUID); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.AccessKeyByID(t.Context(), "KEY1")
	wantErrorKind(t, "deleted key", err, core.NotFound)
	left, err := client.Keys(t.Context(), "takt:{acc}:accesskey*").Result()
	if err != nil || len(left) != 0 {
		t.Errorf("got keys %v and error %v, want nothing left", left, err)
	}
	if err := s.PutAccessKey(t.Context(), newAccessKey("ann", "KEY1"), 1); err != nil {
		t.Errorf("put after the deletion: %v", err)
	}
}
