package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

const (
	jsonType  = "application/json"
	mergeType = "application/merge-patch+json"
)

// body reads a JSON body into v, a pointer to a struct, and refuses what does not
// fit it exactly.
func (a *API) body(c *gin.Context, v any) error {
	text, err := a.read(c, jsonType)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return core.Errorf(core.Invalid, "the body is empty; send a JSON object")
	}
	return decode(text, v)
}

// optionalBody is body where sending none means the zero v.
func (a *API) optionalBody(c *gin.Context, v any) error {
	text, err := a.read(c, jsonType)
	if err != nil || len(text) == 0 {
		return err
	}
	return decode(text, v)
}

// read gives the whole body, without blanks around it.
func (a *API) read(c *gin.Context, types ...string) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, a.opts.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, core.Errorf(tooLarge, "the body has more than %d bytes, which is the most this server takes", over.Limit)
	case err != nil:
		return nil, core.Wrap(core.Invalid, err, "the body broke off before its end; send it again")
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return nil, nil
	}
	return text, checkType(c.GetHeader("Content-Type"), types)
}

func checkType(header string, types []string) error {
	name, params, err := mime.ParseMediaType(header)
	if err != nil || !slices.Contains(types, name) {
		return core.Errorf(unsupportedMedia, "the content type %q is not taken here; send Content-Type: %s", header, strings.Join(types, " or "))
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return core.Errorf(unsupportedMedia, "the charset %q is not taken here; send UTF-8", charset)
	}
	return nil
}

func decode(text []byte, v any) error {
	if err := checkSyntax(text); err != nil {
		return err
	}
	if err := checkShape(text, v, false); err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return core.Wrap(core.Invalid, err, "the body cannot be read: %v", err)
	}
	return nil
}

// checkSyntax refuses what is not one JSON value in UTF-8.
func checkSyntax(text []byte) error {
	if !utf8.Valid(text) {
		return core.Errorf(core.Invalid, "the body is not valid UTF-8")
	}
	if json.Valid(text) {
		return nil
	}
	var raw json.RawMessage
	err := json.Unmarshal(text, &raw) // says where
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return core.Errorf(core.Invalid, "the body is not valid JSON: %s at byte %d", strings.TrimPrefix(syntax.Error(), "json: "), syntax.Offset)
	}
	if err != nil {
		return core.Wrap(core.Invalid, err, "the body is not valid JSON")
	}
	return nil
}

// bodyUUID gives a uuid of a body in the stored form; "" stays "".
func bodyUUID(field, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	uuid, ok := id.Normalize(text)
	if !ok {
		return "", core.InvalidField(field, "%s %q is not a uuid: it must have 32 hexadecimal digits", field, text)
	}
	return uuid, nil
}

// pathUUID gives a uuid of the path in the stored form. What is no uuid names
// nothing.
func pathUUID(c *gin.Context, param, noun string) (string, error) {
	uuid, ok := id.Normalize(c.Param(param))
	if !ok {
		return "", core.Errorf(core.NotFound, "there is no %s with uuid %q; a uuid has 32 hexadecimal digits", noun, c.Param(param))
	}
	return uuid, nil
}
