package zstack_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/id"
)

// A golden file in testdata/golden is a conversation, request by request:
//
//	### what this call is
//	> POST /scheduler/jobgroups
//	> {"params":{"name":"g","type":"startVm"}}
//	< 200
//	< {"error":null,"inventory":{"uuid":"${group}","createDate":"${time}", ...}}
//
// ${new:x} in a request makes a uuid and calls it x. ${x} in an answer is the uuid
// x, or names one that is seen for the first time; in a request it stands for it.
// ${time} is an instant as ZStack writes it. Everything else is meant as it stands.
//
// Each conversation is held three times: with direct answers below /zstack/v1,
// with direct answers below /v1, and with X-Job-UUID, where each change is
// answered 202 and its answer is polled.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		steps := readGolden(t, file)
		for _, way := range []string{"direct", "below v1", "polled"} {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+way, func(t *testing.T) {
				c := conversation{newReplica(t, setting{}), way, map[string]string{}}
				c.replica.attend(seedVM)
				for _, s := range steps {
					c.hold(t, s)
				}
			})
		}
	}
}

// A step is one request and its answer.
type step struct {
	title, method, path, body string
	status                    int
	want                      string
}

func readGolden(t *testing.T, file string) []step {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	for _, part := range strings.Split("\n"+string(text), "\n### ")[1:] {
		title, rest, _ := strings.Cut(part, "\n")
		asked, answered := marked(rest, "> "), marked(rest, "< ")
		line, body, _ := strings.Cut(asked, "\n")
		status, want, _ := strings.Cut(answered, "\n")
		code, err := strconv.Atoi(strings.TrimSpace(status))
		method, path, ok := strings.Cut(line, " ")
		if err != nil || !ok {
			t.Fatalf("%s: step %q has no request or no status", file, title)
		}
		steps = append(steps, step{title, method, path, body, code, want})
	}
	return steps
}

// marked gives the lines that begin with a mark, without it.
func marked(text, mark string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, mark); ok {
			lines = append(lines, rest)
		}
	}
	return strings.Join(lines, "\n")
}

// A conversation remembers the names of uuids.
type conversation struct {
	replica *replica
	way     string
	names   map[string]string
}

var placeholders = regexp.MustCompile(`\$\{(new:)?([a-zA-Z0-9]+)\}`)

// fill puts uuids where a request names them.
func (c conversation) fill(t *testing.T, text string) string {
	t.Helper()
	return placeholders.ReplaceAllStringFunc(text, func(p string) string {
		m := placeholders.FindStringSubmatch(p)
		if m[1] != "" {
			c.names[m[2]] = id.New()
		}
		if c.names[m[2]] == "" {
			t.Fatalf("%s is not known yet", p)
		}
		return c.names[m[2]]
	})
}

func (c conversation) hold(t *testing.T, s step) {
	t.Helper()
	r := *c.replica
	r.t = t
	path, body := c.fill(t, s.path), c.fill(t, s.body)
	if c.way == "below v1" {
		path = "/v1" + path
	}
	var got reply
	if c.way == "polled" && s.method != "GET" && s.status != 400 {
		job := newJobUUID()
		got = r.accepted(job, r.do(s.method, path, body, "X-Job-UUID", job))
	} else {
		got = r.do(s.method, path, body)
	}
	if got.status != s.status {
		t.Fatalf("%s: got %d %s, want %d", s.title, got.status, got.raw, s.status)
	}
	var want map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(s.want)))
	d.UseNumber()
	if err := d.Decode(&want); err != nil {
		t.Fatalf("%s: the answer wanted is not JSON: %v", s.title, err)
	}
	c.learn(want, got.body)
	if diff := cmp.Diff(c.spell(want, got.body), any(got.body)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", s.title, diff)
	}
}

// learn gives names to uuids of an answer that are wanted by a name not known yet.
func (c conversation) learn(want, got any) {
	switch want := want.(type) {
	case map[string]any:
		fields, _ := got.(map[string]any)
		for k, v := range want {
			c.learn(v, fields[k])
		}
	case []any:
		list, _ := got.([]any)
		for i := range min(len(want), len(list)) {
			c.learn(want[i], list[i])
		}
	case string:
		m, text := placeholders.FindStringSubmatch(want), ""
		text, _ = got.(string)
		if m != nil && m[0] == want && m[2] != "time" && c.names[m[2]] == "" && id.Valid(text) {
			c.names[m[2]] = text
		}
	}
}

// spell writes out what is wanted: names become uuids, and ${time} becomes the
// time that came, if it has the form of one.
func (c conversation) spell(want, got any) any {
	switch want := want.(type) {
	case map[string]any:
		fields, _ := got.(map[string]any)
		out := make(map[string]any, len(want))
		for k, v := range want {
			out[k] = c.spell(v, fields[k])
		}
		return out
	case []any:
		list, _ := got.([]any)
		out := make([]any, len(want))
		for i, v := range want {
			var other any
			if i < len(list) {
				other = list[i]
			}
			out[i] = c.spell(v, other)
		}
		return out
	case string:
		if text, _ := got.(string); want == "${time}" && wireStamp.MatchString(text) {
			return text
		}
		return placeholders.ReplaceAllStringFunc(want, func(p string) string {
			if name := placeholders.FindStringSubmatch(p)[2]; c.names[name] != "" {
				return c.names[name]
			}
			return p
		})
	}
	return want
}
