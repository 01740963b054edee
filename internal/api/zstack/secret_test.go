package zstack

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

var secretive = jobTypes{
	"guarded": {Type: "guarded", Parameters: []executor.Parameter{{Name: "token", Secret: true}, {Name: "count"}}},
	"caller":  {Type: "caller", Open: true},
}

func TestShown(t *testing.T) {
	for _, row := range []struct {
		name, jobType string
		in, want      map[string]string
	}{
		{"a secret", "guarded", map[string]string{"token": "hush", "count": "1"}, map[string]string{"token": "***", "count": "1"}},
		{"an empty secret", "guarded", map[string]string{"token": ""}, map[string]string{"token": ""}},
		{"credentials among headers", "caller", map[string]string{"headers": `{"Authorization":"Bearer x","X-Api-Key":"y","Accept":"<z>"}`},
			map[string]string{"headers": `{"Accept":"<z>","Authorization":"***","X-Api-Key":"***"}`}},
		{"headers that cannot be read", "caller", map[string]string{"headers": "Authorization: x"}, map[string]string{"headers": "***"}},
		{"a type nobody knows", "gone", map[string]string{"a": "b"}, map[string]string{"a": "***"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, secretive.shown(row.jobType, row.in)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKept(t *testing.T) {
	stored := map[string]string{"token": "hush", "headers": `{"Authorization":"Bearer x"}`}
	for _, row := range []struct {
		name, jobType string
		given, want   map[string]string
	}{
		{"the mask of a secret", "guarded", map[string]string{"token": "***"}, map[string]string{"token": "hush"}},
		{"another secret", "guarded", map[string]string{"token": "new"}, map[string]string{"token": "new"}},
		{"three stars that are no secret", "guarded", map[string]string{"count": "***"}, map[string]string{"count": "***"}},
		{"the mask of a header", "caller", map[string]string{"headers": `{"Accept":"a","Authorization":"***"}`},
			map[string]string{"headers": `{"Accept":"a","Authorization":"Bearer x"}`}},
		{"headers without a mask", "caller", map[string]string{"headers": `{"Accept": "a"}`}, map[string]string{"headers": `{"Accept": "a"}`}},
		{"the mask of a header that is not stored", "caller", map[string]string{"headers": `{"Cookie":"***"}`}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := secretive.kept(row.jobType, row.given, stored)
			if row.want == nil {
				if !core.Is(err, core.Invalid) {
					t.Errorf("got %v, %v, want it refused", got, err)
				}
				return
			}
			if diff := cmp.Diff(row.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	if got, err := secretive.kept("guarded", map[string]string{"token": "***"}, nil); !core.Is(err, core.Invalid) {
		t.Errorf("the mask of a secret that is not stored: got %v, %v, want it refused", got, err)
	}
}
