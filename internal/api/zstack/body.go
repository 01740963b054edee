package zstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
)

// readBody reads a JSON object; an empty body is an empty object. The server
// limits the length.
func readBody(c *gin.Context) (map[string]any, error) {
	raw, err := io.ReadAll(c.Request.Body)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return nil, &fault{http.StatusRequestEntityTooLarge, codeArgument, "the body is longer than " + strconv.FormatInt(long.Limit, 10) + " bytes"}
	}
	if err != nil {
		return nil, badRequest("the body cannot be read: %v", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil {
		return nil, badRequest("the body is not a JSON object: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("the body is not one JSON object: more follows it")
	}
	return body, nil
}

// object reads a member of a body that must be an object; null and nothing are
// an empty one.
func object(body map[string]any, name string) (map[string]any, error) {
	switch v := body[name].(type) {
	case nil:
		return map[string]any{}, nil
	case map[string]any:
		return v, nil
	default:
		return nil, badRequest("[%s] field is excepted an object, but was [%s].", name, excerpt(textOf(v)))
	}
}

// pick finds the call that a request means, and its fields.
func (e endpoint) pick(body map[string]any) (call, map[string]any, error) {
	if e.method != http.MethodPut {
		fields, err := object(body, "params")
		if err != nil {
			return call{}, nil, err
		}
		for name, v := range body { // documented beside params as well as inside
			_, inside := fields[name]
			if !inside && name != "params" && (e.method == http.MethodDelete || name == "force") {
				fields[name] = v
			}
		}
		return e.calls[0], fields, checkTags(body, fields)
	}
	for _, k := range e.calls {
		if _, ok := body[lowerFirst(k.name)]; ok {
			fields, err := object(body, lowerFirst(k.name))
			if err != nil {
				return call{}, nil, err
			}
			return k, fields, checkTags(body, fields)
		}
	}
	return call{}, nil, badRequest("the body doesn't contain action mapping to the URL")
}

// loose reports whether a body has its fields where those of a POST are not looked for.
func (e endpoint) loose(body map[string]any) bool {
	return e.method == http.MethodPost && body["params"] == nil && len(body) > 0
}

// checkTags refuses tags that are no lists of texts. ZStack documents them beside
// the fields of a call, the Java SDK sends them among these. They are not kept:
// Takt has no tags.
func checkTags(objects ...map[string]any) error {
	for _, fields := range objects {
		in := input{fields: fields}
		for _, name := range []string{"systemTags", "userTags", "tagUuids"} {
			in.texts(name)
		}
		if in.mismatch != nil {
			return in.mismatch
		}
	}
	return nil
}
