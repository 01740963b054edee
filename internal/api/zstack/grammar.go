package zstack

import (
	"net/url"
	"strings"
)

// The grammar of queries:
//
//	q=<name><operator><value>   any number of them, all must hold
//	q=<name> is null            q=<name> not null
//
// A name is a field of the inventory or, one hop away, of a related one:
// trigger.name. The operator is the longest one at the earliest place, so that
// values may hold operators. Names are trimmed, values are not.

// An operator compares a field with a value.
type operator string

// operators in the order in which they are tried at one place: longest first.
const (
	notAmong  operator = "!?="
	notLike   operator = "!~="
	notEqual  operator = "!="
	among     operator = "?="
	like      operator = "~="
	atLeast   operator = ">="
	atMost    operator = "<="
	equal     operator = "="
	more      operator = ">"
	less      operator = "<"
	isNull    operator = "is null"
	isNotNull operator = "not null"
)

var operators = []operator{notAmong, notLike, notEqual, among, like, atLeast, atMost, equal, more, less}

// A condition is one q parameter.
type condition struct {
	hop   string // "" = the inventory itself
	field string
	op    operator
	value string
}

func (c condition) name() string {
	if c.hop == "" {
		return c.field
	}
	return c.hop + "." + c.field
}

// A query is what all of a query string asks for.
type query struct {
	conditions []condition
	limit      int
	start      int
	count      bool // only the number
	withTotal  bool
	sort       string // "" = the inventory's own order
	descending bool
	fields     []string // nil = all
	filterName string   // accepted, without effect
}

const defaultLimit = 1000

// direction turns an ascending order into the query's.
func (q query) direction(order int) int {
	if q.descending {
		return -order
	}
	return order
}

// parseQuery reads a query string; its errors are of the shape (400). groupBy is
// accepted and, like sortDirection of old Go SDKs, without effect.
func parseQuery(values url.Values) (query, error) {
	q := query{limit: defaultLimit}
	for _, text := range repeated(values, "q") {
		c, err := parseCondition(text)
		if err != nil {
			return q, err
		}
		q.conditions = append(q.conditions, c)
	}
	var err error
	if q.limit, err = count(values, "limit", defaultLimit); err != nil {
		return q, err
	}
	if q.start, err = count(values, "start", 0); err != nil {
		return q, err
	}
	if q.count, err = boolean(values, "count"); err != nil {
		return q, err
	}
	if q.withTotal, err = boolean(values, "replyWithCount"); err != nil {
		return q, err
	}
	q.sort, q.descending = order(values.Get("sort"))
	q.fields = fieldList(values)
	q.filterName = values.Get("filterName")
	return q, nil
}

func parseCondition(text string) (condition, error) {
	name, op, value, ok := cutOperator(text)
	if !ok {
		return condition{}, badRequest("Invalid query string[%s]: it needs an operator, one of = != > >= < <= ?= !?= ~= !~=, or 'is null' or 'not null'", excerpt(text))
	}
	c := condition{field: strings.TrimSpace(name), op: op, value: value}
	if hop, field, ok := strings.Cut(c.field, "."); ok {
		c.hop, c.field = hop, field
	}
	return c, nil
}

func cutOperator(text string) (name string, op operator, value string, ok bool) {
	for i := range text {
		for _, op := range operators {
			if strings.HasPrefix(text[i:], string(op)) {
				return text[:i], op, text[i+len(op):], true
			}
		}
	}
	words := strings.Fields(text)
	if len(words) < 2 || !strings.EqualFold(words[len(words)-1], "null") {
		return "", "", "", false
	}
	switch strings.ToLower(strings.Join(words[1:], " ")) {
	case "is null":
		return words[0], isNull, "", true
	case "not null", "is not null":
		return words[0], isNotNull, "", true
	}
	return "", "", "", false
}

// count reads a number of rows.
func count(values url.Values, name string, otherwise int) (int, error) {
	text := values.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, ok := wholeNumber(text)
	if !ok || n < 0 || int64(int(n)) != n {
		return 0, badRequest("[%s] field is excepted an int or long, not negative, but was [%s].", name, excerpt(text))
	}
	return int(n), nil
}

func boolean(values url.Values, name string) (bool, error) {
	switch text := values.Get(name); strings.ToLower(text) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	default:
		return false, badRequest("[%s] field is excepted a boolean, but was [%s].", name, excerpt(text))
	}
}

// order reads +f, -f or f. A + that curl sends arrives as a space.
func order(text string) (field string, descending bool) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		return strings.TrimSpace(rest), true
	}
	return strings.TrimSpace(strings.TrimPrefix(text, "+")), false
}

// fieldList reads fields=a,b and fields=a&fields=b.
func fieldList(values url.Values) []string {
	var out []string
	for _, text := range repeated(values, "fields") {
		for _, f := range strings.Split(text, ",") {
			if f = strings.TrimSpace(f); f != "" {
				out = append(out, f)
			}
		}
	}
	return out
}
