package native

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// A query reads query parameters and keeps the first error, so that a handler
// reads all of them and looks at err once.
type query struct {
	values url.Values
	err    error
}

func queryOf(c *gin.Context) *query { return &query{values: c.Request.URL.Query()} }

func (q *query) refuse(name, format string, args ...any) {
	if q.err == nil {
		q.err = core.InvalidField(name, format, args...)
	}
}

// text gives a parameter that may come once.
func (q *query) text(name string) string {
	if len(q.values[name]) > 1 {
		q.refuse(name, "%s is given %d times; give it once", name, len(q.values[name]))
	}
	return q.values.Get(name)
}

// number gives a whole number from low to high; absent is the usual one.
func (q *query) number(name string, usual, low, high int) int {
	text := q.text(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		q.refuse(name, "%s %q must be a whole number from %d to %d", name, text, low, high)
	}
	return n
}

func (q *query) time(name string) time.Time {
	text := q.text(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.refuse(name, "%s %q must be an RFC 3339 time, such as 2026-01-31T08:00:00Z (write + as %%2B)", name, text)
	}
	return t
}

// uuid gives a uuid, or "" where the parameter is absent. An empty one is refused: it
// comes from a variable that was not set, and would ask for everything.
func (q *query) uuid(name string) string {
	text := q.text(name)
	if text == "" {
		if q.values.Has(name) {
			q.refuse(name, "%s is empty; where it is given it must be a uuid", name)
		}
		return ""
	}
	uuid, ok := id.Normalize(text)
	if !ok {
		q.refuse(name, "%s %q is not a uuid: it must have 32 hexadecimal digits", name, text)
	}
	return uuid
}

func (q *query) flag(name string) bool {
	switch text := q.text(name); text {
	case "", "false":
		return false
	case "true":
	default:
		q.refuse(name, "%s %q must be true or false", name, text)
	}
	return true
}

// oneOf gives a parameter that must be one of the given words.
func oneOf[T ~string](q *query, name string, words ...T) T {
	text := T(q.text(name))
	if text != "" && !slices.Contains(words, text) {
		q.refuse(name, "%s %q must be one of %s", name, string(text), list(words))
	}
	return text
}

// manyOf gives a parameter that may come several times or hold words with commas
// between.
func manyOf[T ~string](q *query, name string, words ...T) []T {
	var out []T
	for _, value := range q.values[name] {
		for text := range strings.SplitSeq(value, ",") {
			if !slices.Contains(words, T(text)) {
				q.refuse(name, "%s %q must be one of %s", name, text, list(words))
			}
			out = append(out, T(text))
		}
	}
	return out
}

func list[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}

// pageLimit is the usual and the largest number of items on a page.
const (
	usualPage = 50
	mostPage  = 1000
)

// page cuts a page out of definitions: newest first, after the cursor, of those
// that the query's name and keep let through. next is the cursor of the page
// after it, or "".
func page[T any](q *query, all []T, meta func(T) core.Meta, keep func(T) bool) (items []T, next string) {
	limit := q.number("limit", usualPage, 1, mostPage)
	after := q.cursor()
	name := strings.ToLower(q.text("name"))
	if q.err != nil {
		return nil, ""
	}
	slices.SortFunc(all, func(x, y T) int { return placeOf(meta(x)).compare(placeOf(meta(y))) })
	for _, x := range all {
		m := meta(x)
		if placeOf(m).compare(after) <= 0 || !strings.Contains(strings.ToLower(m.Name), name) || !keep(x) {
			continue
		}
		if len(items) == limit {
			return items, placeOf(meta(items[limit-1])).cursor()
		}
		items = append(items, x)
	}
	return items, ""
}

// A place is where a definition stands in the order of all.
type place struct {
	created int64 // Unix nanoseconds, negated: newer ones are less
	uuid    string
}

func placeOf(m core.Meta) place { return place{-m.Created.UnixNano(), m.UUID} }

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.created, o.created), cmp.Compare(p.uuid, o.uuid))
}

func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(-p.created, 10) + "." + p.uuid))
}

// cursor reads what cursor wrote; absent is before all.
func (q *query) cursor() place {
	text := q.text("cursor")
	if text == "" {
		return place{created: -1 << 63}
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	stamp, uuid, ok := strings.Cut(string(b), ".")
	n, err2 := strconv.ParseInt(stamp, 10, 64)
	if err != nil || err2 != nil || !ok {
		q.refuse("cursor", "the cursor is not one that this server gave; leave it out to start at the first page")
	}
	return place{-n, uuid}
}
