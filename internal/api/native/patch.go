package native

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// A mergePatch is a JSON merge patch (RFC 7396) of the fields of a definition: a
// member replaces, null takes away, objects are merged member by member.
type mergePatch map[string]any

// readPatch reads a patch of the fields that the struct fields has.
func (a *API) readPatch(c *gin.Context, fields any) (mergePatch, error) {
	text, err := a.read(c, mergeType, jsonType)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, core.Errorf(core.Invalid, "the body is empty; send a JSON object with the fields to change")
	}
	if err := checkSyntax(text); err != nil {
		return nil, err
	}
	if err := checkShape(text, fields, true); err != nil {
		return nil, err
	}
	return decodeObject(text)
}

// has reports whether the patch says anything about a field.
func (p mergePatch) has(field string) bool { _, ok := p[field]; return ok }

// apply changes what fields points to. The patch stays as it is, since a change
// that meets another one is made again.
func (p mergePatch) apply(fields any) error {
	text, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode definition: %w", err)
	}
	document, err := decodeObject(text)
	if err != nil {
		return fmt.Errorf("decode definition: %w", err)
	}
	if text, err = json.Marshal(merge(document, p)); err != nil {
		return fmt.Errorf("encode patched definition: %w", err)
	}
	return decodeInto(text, fields)
}

// decodeInto fills fields, which may hold values already, from text alone.
func decodeInto(text []byte, fields any) error {
	switch f := fields.(type) {
	case *JobFields:
		*f = JobFields{}
	case *GroupFields:
		*f = GroupFields{}
	case *TriggerFields:
		*f = TriggerFields{}
	case *CBTFields:
		*f = CBTFields{}
	}
	if err := json.Unmarshal(text, fields); err != nil {
		return core.Wrap(core.Invalid, err, "the patch does not fit: %v", err)
	}
	return nil
}

func decodeObject(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var object map[string]any
	err := dec.Decode(&object)
	return object, err
}

// merge is MergePatch of RFC 7396, section 2, for a patch that is an object.
func merge(target map[string]any, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for name, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, _ := target[name].(map[string]any)
			target[name] = merge(inner, value)
		default:
			target[name] = value
		}
	}
	return target
}

// etag is the entity tag of a definition: its version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// ifMatch gives the version that the client wants to change, 0 for any.
func (a *API) ifMatch(c *gin.Context) (int64, error) {
	values := c.Request.Header.Values("If-Match")
	if len(values) == 0 {
		if a.opts.RequireIfMatch {
			return 0, core.Errorf(preconditionRequired, "send If-Match with the ETag that was read, so that a change made meanwhile is not lost")
		}
		return 0, nil
	}
	value := strings.Join(values, ", ")
	if value == "*" {
		return 0, nil
	}
	digits, opened := strings.CutPrefix(value, `"`)
	digits, closed := strings.CutSuffix(digits, `"`)
	if !opened || !closed || strings.Contains(digits, `"`) {
		return 0, core.InvalidField("If-Match", `If-Match must be * or one ETag as it was read, such as "3"`)
	}
	version, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || version < 1 || etag(version) != value {
		return 0, core.Errorf(core.Stale, "no version has the ETag %s; read it again and repeat the change", value)
	}
	return version, nil
}

// refuseIfMatch is for a DELETE, which cannot be made conditional: to ignore the
// condition would do what the client asked not to.
func refuseIfMatch(c *gin.Context) error {
	if c.GetHeader("If-Match") == "" {
		return nil
	}
	return core.InvalidField("If-Match", "If-Match is not taken on DELETE; leave it out")
}

// idempotencyKey gives the request's Idempotency-Key, or "".
func idempotencyKey(c *gin.Context) (string, error) {
	keys := c.Request.Header.Values(idempotencyHeader)
	if len(keys) == 0 {
		return "", nil
	}
	if len(keys) > 1 || !visible(keys[0], 128) {
		return "", core.InvalidField(idempotencyHeader, "%s must be given once, with 1 to 128 visible ASCII characters", idempotencyHeader)
	}
	return keys[0], nil
}

const idempotencyHeader = "Idempotency-Key"

// started answers a request that an Idempotency-Key may have made a repeated
// one: 201, or 200 with Idempotent-Replayed when the first one was answered
// before this one came.
func (a *API) started(c *gin.Context, replayed bool, path string, v any) error {
	if !replayed {
		return a.created(c, path, v)
	}
	c.Header("Idempotent-Replayed", "true")
	c.Header("Location", a.opts.Prefix+path)
	return answer(c, http.StatusOK, v)
}
