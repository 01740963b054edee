package zstack

import (
	"cmp"
	"reflect"
	"strconv"
	"strings"
)

// A noun names an inventory that can be queried.
type noun string

const (
	groups   noun = "group"
	jobs     noun = "job"
	triggers noun = "trigger"
	history  noun = "history"
	cbtTasks noun = "CBT task"
)

// A class says which fields an inventory has and where its names lead.
type class struct {
	name    string
	columns map[string]column
	hops    map[string]hop
}

// A hop leads from an inventory to those that its list field via names.
type hop struct {
	via string
	to  noun
}

// classes are what can be queried. Hops are ZStack's expanded queries.
var classes = map[noun]class{
	groups:   newClass[groupInventory](groupClass, map[string]hop{"trigger": {"triggersUuid", triggers}, "job": {"jobsUuid", jobs}}),
	jobs:     newClass[jobInventory](jobClass, map[string]hop{"trigger": {"triggersUuid", triggers}}),
	triggers: newClass[triggerInventory](triggerClass, map[string]hop{"job": {"jobsUuid", jobs}, "jobGroup": {"jobGroupsUuid", groups}}),
	keys:     newClass[accessKeyInventory](accessKeyClass, nil),
	history:  newClass[historyInventory](historyClass, nil),
	cbtTasks: cbtTaskColumns(),
}

// A kind is how the values of a column compare.
type kind int

const (
	textKind kind = iota
	numberKind
	boolKind
	timeKind
	listKind // of texts: holds when one element does
)

// A column is one field of an inventory; index -1 is a list that is always empty. A
// hidden one can be asked for and is not shown: it is another name for a field.
type column struct {
	index  int
	kind   kind
	hidden bool
	inner  int // of a list of inventories: 1 + the index of a text field of theirs; 0 = no such list
}

// newClass reads the columns off the JSON names of an inventory, so that what can
// be asked for is what is shown.
func newClass[T any](name string, hops map[string]hop) class {
	// Every ZStack inventory can be asked for its tags. Takt has none.
	c := class{name: name, hops: hops, columns: map[string]column{
		"__systemTag__": {index: -1, kind: listKind, hidden: true}, "__userTag__": {index: -1, kind: listKind, hidden: true},
	}}
	for i, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		c.columns[f.Tag.Get("json")] = column{index: i, kind: kindOf(f.Type)}
	}
	if id, ok := c.columns["id"]; ok { // what a row without a uuid is known by
		c.columns["uuid"] = column{index: id.index, kind: textKind, hidden: true}
	}
	return c
}

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[stamp]():
		return timeKind
	case reflect.TypeFor[int64](), reflect.TypeFor[*int64]():
		return numberKind
	case reflect.TypeFor[bool]():
		return boolKind
	case reflect.TypeFor[[]string]():
		return listKind
	}
	return textKind
}

// value gives a field of an inventory: string, int64, bool, stamp, []string, or
// nil for null.
func (col column) value(inventory any) any {
	if col.index < 0 {
		return []string(nil)
	}
	field := reflect.ValueOf(inventory).Field(col.index)
	if col.inner > 0 {
		return innerTexts(field, col.inner-1)
	}
	switch v := field.Interface().(type) {
	case int64:
		if col.kind == textKind {
			return strconv.FormatInt(v, 10)
		}
		return v
	case nullable:
		if v == "" {
			return nil
		}
		return string(v)
	case *int64:
		if v == nil {
			return nil
		}
		return *v
	case stamp:
		if v.IsZero() {
			return nil
		}
		return v
	default:
		return v
	}
}

// innerTexts gives a text field of each inventory of a list.
func innerTexts(list reflect.Value, field int) []string {
	out := make([]string, list.Len())
	for i := range out {
		out[i] = list.Index(i).Field(field).String()
	}
	return out
}

// flat gives a query in which fields of inventories within a list are columns, as
// resourceRefs.resourceUuid is one.
func (c class) flat(q query) query {
	for i, cond := range q.conditions {
		if _, ok := c.columns[cond.name()]; ok {
			q.conditions[i].hop, q.conditions[i].field = "", cond.name()
		}
	}
	return q
}

// check refuses a query for fields that the class does not have. What it refuses is
// well written, so it is no 400 but a failure, as in ZStack.
func (c class) check(q query) error {
	for _, cond := range q.conditions {
		in, name := c, cond.field
		if cond.hop != "" {
			h, ok := c.hops[cond.hop]
			if !ok {
				return c.unknown("condition name", cond.name())
			}
			in = classes[h.to]
		}
		if _, ok := in.columns[name]; !ok {
			return in.unknown("condition name", cond.name())
		}
	}
	if col, ok := c.columns[q.sort]; q.sort != "" && (!ok || col.hidden || col.kind == listKind) {
		return c.unknown("sort field", q.sort)
	}
	for _, f := range q.fields {
		if col, ok := c.columns[f]; !ok || col.hidden {
			return c.unknown("field", f)
		}
	}
	if q.filterName != "" && !strings.Contains(q.filterName, ":") {
		return badArgument("filterName[%s] must be written type:condition", excerpt(q.filterName))
	}
	return nil
}

func (c class) unknown(what, name string) error {
	return badArgument("%s[%s] is invalid, no such field on inventory class[%s]", what, excerpt(name), c.name)
}

// pick gives an inventory, or of it the fields that the query asks for.
func (c class) pick(q query, inventory any) any {
	if q.fields == nil {
		return inventory
	}
	out := make(map[string]any, len(q.fields))
	for _, f := range q.fields {
		out[f] = reflect.ValueOf(inventory).Field(c.columns[f].index).Interface()
	}
	return out
}

// order compares inventories by the query's field.
func (c class) order(q query) func(x, y any) int {
	col := c.columns[q.sort]
	return func(x, y any) int { return q.direction(compareValues(col.value(x), col.value(y))) }
}

// compareValues orders values of one column. Null comes first, as in MySQL.
func compareValues(x, y any) int {
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return -1
	case y == nil:
		return 1
	}
	switch x := x.(type) {
	case int64:
		return cmp.Compare(x, y.(int64))
	case stamp:
		return x.Compare(y.(stamp).Time)
	case bool:
		return cmp.Compare(number(x), number(y.(bool)))
	}
	return strings.Compare(fold(x.(string)), fold(y.(string)))
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// fold makes texts comparable without regard to case, as MySQL's collation is.
func fold(s string) string { return strings.ToLower(s) }
