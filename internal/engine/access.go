package engine

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// What a caller may not see does not exist for them (NotFound); what they see
// but may not change is Denied.

func maySee(ctx context.Context, noun, uuid, account string) error {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return err
	}
	if !c.Sees(account) {
		return core.Missing(noun, uuid)
	}
	return nil
}

func mayChange(ctx context.Context, noun, uuid, account string) error {
	if err := maySee(ctx, noun, uuid, account); err != nil {
		return err
	}
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return err
	}
	if !c.Changes(account) {
		return core.Errorf(core.Denied, "account %q has the role %s and may not change this %s", c.Name, c.Role, noun)
	}
	return nil
}

// maker gives the caller who is about to make something.
func maker(ctx context.Context, noun string) (core.Caller, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return c, err
	}
	if !c.Changes(c.Owner) {
		return c, core.Errorf(core.Denied, "account %q has the role %s and may not make a %s", c.Name, c.Role, noun)
	}
	return c, nil
}

// newMeta completes the common part of a new definition and checks it.
func (e *Engine) newMeta(ctx context.Context, noun string, m *core.Meta) error {
	c, err := maker(ctx, noun)
	if err != nil {
		return err
	}
	m.Request = core.RequestFrom(ctx).Key
	if m.UUID == "" {
		m.UUID, m.Request = newID(ctx, noun), ""
	}
	if !id.Valid(m.UUID) {
		return core.InvalidField("uuid", "uuid %q must be 32 lower-case hexadecimal digits", m.UUID)
	}
	if m.Dialect == "" {
		m.Dialect = core.Native
	}
	m.Account = c.Owner
	now, err := e.store.Now(ctx)
	if err != nil {
		return err
	}
	m.Version, m.Created, m.Updated = 0, now.UTC(), now.UTC()
	return checkMeta(m, "")
}

// checkMeta checks name and description. A name that stays as it was is not judged
// again, so that a thing from before a rule can still be changed; before is "" for a
// new one.
func checkMeta(m *core.Meta, before string) error {
	m.Name = strings.TrimSpace(m.Name)
	if m.Name != before || m.Name == "" {
		if err := core.CheckName("name", m.Name); err != nil {
			return err
		}
	}
	switch n := utf8.RuneCountInString(m.Description); {
	case !utf8.ValidString(m.Description):
		return core.InvalidField("description", "description must be valid UTF-8")
	case n > core.MaxDescription:
		return core.InvalidField("description", "description has %d characters, at most %d are allowed", n, core.MaxDescription)
	}
	return nil
}

// checkVersion refuses a change that was made to another version; 0 means any.
func checkVersion(noun string, want, have int64) error {
	if want != 0 && want != have {
		return core.Errorf(core.Stale, "the %s has version %d, not %d; read it again and repeat the change", noun, have, want)
	}
	return nil
}

// changeTries is how often a change is repeated when somebody else's came first.
const changeTries = 16

// retryStale runs change until it does not meet a concurrent change. With a
// version asked for by the caller, the check inside change ends it.
func retryStale(change func() error) error {
	var err error
	for range changeTries {
		if err = change(); !core.Is(err, core.Stale) {
			return err
		}
	}
	return err
}
