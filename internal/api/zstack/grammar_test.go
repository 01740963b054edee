package zstack

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseCondition(t *testing.T) {
	for _, row := range []struct {
		text string
		want condition
	}{
		{"name=a", condition{"", "name", equal, "a"}},
		{" name = a ", condition{"", "name", equal, " a "}},
		{"name!=a", condition{"", "name", notEqual, "a"}},
		{"name>a", condition{"", "name", more, "a"}},
		{"name>=a", condition{"", "name", atLeast, "a"}},
		{"name<a", condition{"", "name", less, "a"}},
		{"name<=a", condition{"", "name", atMost, "a"}},
		{"name?=a,b", condition{"", "name", among, "a,b"}},
		{"name!?=a,b", condition{"", "name", notAmong, "a,b"}},
		{"name~=%a", condition{"", "name", like, "%a"}},
		{"name!~=%a", condition{"", "name", notLike, "%a"}},
		{"name is null", condition{"", "name", isNull, ""}},
		{"name  IS  NULL ", condition{"", "name", isNull, ""}},
		{"name not null", condition{"", "name", isNotNull, ""}},
		{"name is not null", condition{"", "name", isNotNull, ""}},
		{"name=", condition{"", "name", equal, ""}},
		// The earliest operator wins, so a value may hold any text.
		{"name=a!=b", condition{"", "name", equal, "a!=b"}},
		{"name~=%?=%", condition{"", "name", like, "%?=%"}},
		{"name=x is null", condition{"", "name", equal, "x is null"}},
		{"name<>a", condition{"", "name", less, ">a"}},
		{"trigger.name=a", condition{"trigger", "name", equal, "a"}},
		{"a.b.c=a", condition{"a", "b.c", equal, "a"}},
	} {
		got, err := parseCondition(row.text)
		if err != nil {
			t.Errorf("%q: %v", row.text, err)
			continue
		}
		if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(condition{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", row.text, diff)
		}
	}
	for _, text := range []string{"", "name", "name!x", "name is", "is null", "name null", "name is nullx", "name ~ x", "a b is null"} {
		_, err := parseCondition(text)
		var f *fault
		if !errors.As(err, &f) || f.status != http.StatusBadRequest {
			t.Errorf("%q: got error %v, want a 400", text, err)
		}
	}
}

func TestParseQuery(t *testing.T) {
	for _, row := range []struct {
		text string
		want query
	}{
		{"", query{limit: 1000}},
		{"limit=4.0&start=2", query{limit: 4, start: 2}},
		{"limit=0&count=true&replyWithCount=false", query{count: true}},
		{"sort=%2Bname", query{limit: 1000, sort: "name"}},
		{"sort=+name", query{limit: 1000, sort: "name"}}, // the + arrives as a space
		{"sort=-name&sortDirection=desc", query{limit: 1000, sort: "name", descending: true}},
		{"fields=uuid,name", query{limit: 1000, fields: []string{"uuid", "name"}}},
		{"fields=uuid&fields=name,", query{limit: 1000, fields: []string{"uuid", "name"}}},
		{"groupBy=x&filterName=a:b&unknown=1", query{limit: 1000, filterName: "a:b"}},
		{"q=name%3Da&q=uuid%3Db", query{limit: 1000, conditions: []condition{{"", "name", equal, "a"}, {"", "uuid", equal, "b"}}}},
		{"q.0=name%3Da&q.1=uuid%3Db", query{limit: 1000, conditions: []condition{{"", "name", equal, "a"}, {"", "uuid", equal, "b"}}}},
	} {
		values, err := url.ParseQuery(row.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseQuery(values)
		if err != nil {
			t.Errorf("%q: %v", row.text, err)
			continue
		}
		if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(query{}, condition{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", row.text, diff)
		}
	}
	for text, status := range map[string]int{
		"limit=x": 400, "limit=-1": 400, "limit=1.5": 400, "limit=1e30": 400, "start=x": 400, "count=x": 400, "replyWithCount=2": 400, "count=1": 400, "q=name": 400,
	} {
		values, _ := url.ParseQuery(text)
		_, err := parseQuery(values)
		var f *fault
		if !errors.As(err, &f) || f.status != status {
			t.Errorf("%q: got error %v, want status %d", text, err, status)
		}
	}
}

func TestMatchLike(t *testing.T) {
	for _, row := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"%", "", true}, {"%", "abc", true}, {"_", "", false}, {"_", "ä", true}, {"__", "a", false},
		{"a%", "abc", true}, {"%c", "abc", true}, {"%b%", "abc", true}, {"a%c", "abc", true}, {"a%c", "acb", false}, {"a_c", "abc", true},
		{"%ab%ab%", "abab", true}, {"%ab%ab%", "aba", false}, {"%%%x", "aax", true}, {"abc", "abc", true}, {"abc", "abcd", false},
		{`100\%`, "100%", true}, {`100\%`, "1000", false}, {`a\_b`, "a_b", true}, {`a\_b`, "axb", false}, {`%\%`, "5%", true}, {`\`, `\`, true},
	} {
		if got := matchLike(row.pattern, row.text); got != row.want {
			t.Errorf("matchLike(%q, %q) = %v, want %v", row.pattern, row.text, got, row.want)
		}
	}
	// Many % must not take exponential time.
	if matchLike(strings.Repeat("%a", 200)+"b", strings.Repeat("a", 5000)) {
		t.Error("a pattern that ends in b matches a text of a")
	}
}

// sample is an inventory with every kind of column, null and not.
func sample() triggerInventory {
	seconds := int64(3600)
	return triggerInventory{
		UUID: "u", Name: "Nightly 100%", SchedulerType: "cron", SchedulerInterval: &seconds,
		StartTime: stamp{time.Date(2017, 11, 14, 22, 20, 57, 500e6, time.UTC)}, JobsUUID: []string{"j1", "j2"}, JobGroupsUUID: []string{},
	}
}

func TestHolds(t *testing.T) {
	for text, want := range map[string]bool{
		"name=nightly 100%": true, "name=nightly": false, "name!=NIGHTLY 100%": false, "name!=x": true, "name= Nightly 100%": false,
		"name>night": true, "name>z": false, "name<=NIGHTLY 100%": true, "name>=o": false,
		"name~=%HTL%": true, "name~=nightly": false, `name~=%100\%`: true, "name!~=x%": true, "name!~=n%": false,
		"name?=x, nightly 100%": true, "name?=x": false, "name!?=x,y": true, "name!?=Nightly 100%,y": false,
		"name is null": false, "name not null": true,
		// Null satisfies nothing but "is null", as in SQL.
		"description is null": true, "description not null": false, "description=x": false, "description!=x": false,
		"description~=%": false, "description!~=x": false, "description!?=x": false, "description=": false,
		"schedulerInterval=3600.0": true, "schedulerInterval!=3600": false, "schedulerInterval>3599": true, "schedulerInterval<3600": false,
		"schedulerInterval?=1,3600": true, "schedulerInterval~=36%": true, "repeatCount=0": false, "repeatCount is null": true,
		"startTime=Nov 14, 2017 10:20:57 PM": true, "startTime=2017-11-14 22:20:57": true, "startTime=1510698057": true, "startTime=1510698057000": true,
		"startTime=2017-11-15T06:20:57+08:00": true, "startTime>2017-11-14 22:20:57": false, "startTime>=2017-11-14": true, "startTime<2017-11-15": true,
		"startTime~=2017-11-14%": true, "stopTime<2017-11-15": false, "stopTime is null": true,
		"jobsUuid=J2": true, "jobsUuid=j3": false, "jobsUuid!=j2": false, "jobsUuid!=j3": true, "jobsUuid?=j3,j1": true, "jobsUuid!?=j3,j1": false,
		"jobsUuid~=j%": true, "jobsUuid is null": false, "jobGroupsUuid is null": true, "jobGroupsUuid not null": false, "jobGroupsUuid=x": false, "jobGroupsUuid!=x": true,
		"__systemTag__=a::b": false, "__userTag__!=a": true, "__systemTag__ is null": true,
	} {
		c, err := parseCondition(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		test, err := c.compile(classes[triggers].columns[c.field], time.UTC)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := test.holds(sample()); got != want {
			t.Errorf("%q holds = %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"schedulerInterval=x", "schedulerInterval>1.5", "schedulerInterval?=1,x", "startTime=yesterday", "startTime>"} {
		c, _ := parseCondition(text)
		_, err := c.compile(classes[triggers].columns[c.field], time.UTC)
		var f *fault
		if !errors.As(err, &f) || f.code != codeArgument {
			t.Errorf("%q: got error %v, want SYS.1007", text, err)
		}
	}
}

func TestCheckNamesFieldAndClass(t *testing.T) {
	for text, want := range map[string]string{
		"q=x%3D1":                    "condition name[x] is invalid, no such field on inventory class[org.zstack.header.scheduler.SchedulerJobInventory]",
		"q=trigger.x%3D1":            "condition name[trigger.x] is invalid, no such field on inventory class[org.zstack.header.scheduler.SchedulerTriggerInventory]",
		"q=nothing.x%3D1":            "condition name[nothing.x] is invalid",
		"q=trigger.job.name%3D1":     "condition name[trigger.job.name] is invalid",
		"sort=x":                     "sort field[x] is invalid",
		"sort=triggersUuid":          "sort field[triggersUuid] is invalid",
		"fields=uuid,x":              "field[x] is invalid",
		"fields=__systemTag__":       "field[__systemTag__] is invalid",
		"q=%3D1":                     "condition name[] is invalid",
		"q=trigger.name%3D1":         "",
		"q=triggersUuid+is+null":     "",
		"sort=-name&fields=name":     "",
		"q=__systemTag__%3Da%3A%3Ab": "",
		"filterName=a":               "filterName[a] must be written type:condition",
		"filterName=a:b":             "",
		"groupBy=anything":           "",
	} {
		values, _ := url.ParseQuery(text)
		q, err := parseQuery(values)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		err = classes[jobs].check(q)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got error %v, want %q", text, err, want)
		}
	}
}

// FuzzQuery feeds any text through the reading and the matching of a condition:
// nothing panics, what was read says what was written, and an operator and its
// negation never agree on a value that is not null.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"name=a", "name!=a", "name!~=%a_\\%", "uuid?=a,b", "schedulerInterval>=3600.0", "startTime<2017-11-14", "jobsUuid!?=j1", "description is null", "job.name~=x", "name", "!?=", "a.b.c=d"} {
		f.Add(s)
	}
	negations := map[operator]operator{equal: notEqual, among: notAmong, like: notLike, isNotNull: isNull, atMost: more, atLeast: less}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCondition(text)
		if err != nil {
			return
		}
		if c.op != isNull && c.op != isNotNull {
			if !strings.HasSuffix(text, string(c.op)+c.value) {
				t.Errorf("%q was read as %q %q", text, c.op, c.value)
			}
			if i := strings.Index(text, string(c.op)+c.value); i >= 0 && strings.ContainsAny(c.name(), "=<>") {
				t.Errorf("%q was read with the name %q", text, c.name())
			}
		}
		if (class{columns: classes[triggers].columns}).check(query{conditions: []condition{c}}) != nil {
			return
		}
		col := classes[triggers].columns[c.field]
		yes, err := c.compile(col, time.UTC)
		if err != nil {
			return
		}
		other, ok := negations[c.op]
		if !ok || col.value(sample()) == nil || col.kind == listKind && (c.op == atMost || c.op == atLeast) {
			yes.holds(sample())
			return
		}
		c.op = other
		no, err := c.compile(col, time.UTC)
		if err != nil {
			t.Fatalf("%q compiles, its negation does not: %v", text, err)
		}
		if yes.holds(sample()) == no.holds(sample()) {
			t.Errorf("%q and its negation agree", text)
		}
	})
}
