package zstack

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A test is a condition whose value was read as its column's kind.
type test struct {
	op      operator
	column  column
	operand any   // string, int64, bool or time.Time; of a list: string
	set     []any // for among and not among
	pattern string
}

// compile reads the value of a condition. zone is that of times without one.
func (c condition) compile(col column, zone *time.Location) (test, error) {
	t := test{op: c.op, column: col}
	var err error
	switch c.op {
	case isNull, isNotNull:
	case like, notLike:
		t.pattern = fold(c.value)
	case among, notAmong:
		for _, v := range strings.Split(c.value, ",") {
			var x any
			if x, err = c.operand(col, strings.TrimSpace(v), zone); err != nil {
				return t, err
			}
			t.set = append(t.set, x)
		}
	default:
		t.operand, err = c.operand(col, c.value, zone)
	}
	return t, err
}

func (c condition) operand(col column, text string, zone *time.Location) (any, error) {
	ok := true
	var v any = fold(text)
	switch col.kind {
	case numberKind:
		v, ok = wholeNumber(text)
	case boolKind:
		b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(text)))
		v, ok = b, err == nil
	case timeKind:
		v, ok = parseTime(text, zone)
	}
	if !ok {
		return nil, badArgument("condition[%s %s %s] is invalid: the field does not hold values such as [%s]", c.name(), c.op, excerpt(c.value), excerpt(text))
	}
	return v, nil
}

// timeLayouts are the forms of an instant in a condition: MySQL's, the wire's own
// and ISO.
var timeLayouts = []string{
	"2006-01-02 15:04:05", stampLayout, time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02", "Jan 2, 2006, 3:04:05 PM",
}

func parseTime(text string, zone *time.Location) (time.Time, bool) {
	text = strings.TrimSpace(text)
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, true
		}
	}
	n, ok := wholeNumber(text)
	switch {
	case !ok || n < 0 || n > 1e15:
		return time.Time{}, false
	case n > leastMillis:
		return time.UnixMilli(n), true
	}
	return time.Unix(n, 0), true
}

// negative operators hold where their positive one does not: on a list, where it
// holds for no element. Null itself satisfies neither, as in SQL; among the values of
// several inventories it is as if it were not there.
var positive = map[operator]operator{notEqual: equal, notAmong: among, notLike: like, isNull: isNotNull}

// holds reports whether an inventory passes the test.
func (t test) holds(inventory any) bool {
	v := t.column.value(inventory)
	if v == nil {
		return t.op == isNull
	}
	return t.holdsAny([]any{v})
}

// holdsAny is holds for the values of several inventories, of which one has to
// pass, or for a negative operator none may fail.
func (t test) holdsAny(values []any) bool {
	var flat []any
	for _, v := range values {
		list, isList := v.([]string)
		if !isList {
			flat = append(flat, v)
		}
		for _, s := range list {
			flat = append(flat, s)
		}
	}
	op, negated := positive[t.op]
	if !negated {
		op = t.op
	}
	match := slices.ContainsFunc(flat, func(v any) bool { return v != nil && t.passes(op, v) })
	return match != negated
}

// passes applies a positive operator to a value that is not null.
func (t test) passes(op operator, v any) bool {
	switch op {
	case isNotNull:
		return true
	case like:
		return matchLike(t.pattern, fold(display(v)))
	case among:
		return slices.ContainsFunc(t.set, func(x any) bool { return compareWith(v, x) == 0 })
	}
	n := compareWith(v, t.operand)
	switch op {
	case equal:
		return n == 0
	case more:
		return n > 0
	case less:
		return n < 0
	case atLeast:
		return n >= 0
	case atMost:
		return n <= 0
	}
	return false
}

// compareWith compares a value with an operand of its kind. Instants are compared by
// the second, which is what clients are shown.
func compareWith(v, operand any) int {
	switch v := v.(type) {
	case int64:
		return cmp.Compare(v, operand.(int64))
	case bool:
		return cmp.Compare(number(v), number(operand.(bool)))
	case stamp:
		return v.Truncate(time.Second).Compare(operand.(time.Time))
	}
	return strings.Compare(fold(v.(string)), operand.(string))
}

// display gives a value as MySQL would show it.
func display(v any) string {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case stamp:
		return v.Format("2006-01-02 15:04:05")
	}
	return v.(string)
}

// matchLike matches a text with a pattern in which % stands for any run and _ for
// one character; a backslash takes the next character as it is. It remembers only
// the last %, so it takes len(pattern) * len(text) steps at most.
func matchLike(pattern, text string) bool {
	p, s := []rune(pattern), []rune(text)
	i, j := 0, 0
	star, resume := -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '%':
			star, resume = i, j
			i++
			continue
		case i < len(p) && p[i] == '\\' && i+1 < len(p):
			if p[i+1] == s[j] {
				i, j = i+2, j+1
				continue
			}
		case i < len(p) && (p[i] == '_' || p[i] == s[j]):
			i, j = i+1, j+1
			continue
		}
		if star < 0 {
			return false
		}
		resume++
		i, j = star+1, resume
	}
	for i < len(p) && p[i] == '%' {
		i++
	}
	return i == len(p)
}
