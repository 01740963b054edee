package zstack

import (
	"strings"
	"testing"
)

// A call that is added to the table must not be forgotten where others' things are
// protected: what its path names has to be looked up.
func TestPathsNameWhatIsProtected(t *testing.T) {
	const uuid = "5c0f1e6ad1a04bb2b9a7c6f1e2d3c4b5"
	for _, e := range (&API{}).mutations() {
		named := 0
		for _, segment := range strings.Split(e.path, "/") {
			if strings.HasPrefix(segment, ":") {
				named++
			}
		}
		// Package auth looks after sessions and access keys itself.
		if strings.HasPrefix(e.path, "/accounts/") || strings.HasPrefix(e.path, "/accesskeys") {
			continue
		}
		in := &input{path: func(name string) string {
			if strings.Contains(e.path, ":"+name+"/") || strings.HasSuffix(e.path, ":"+name) {
				return uuid
			}
			return ""
		}}
		found := 0
		for _, r := range e.named(in) {
			if r.uuid == uuid {
				found++
			}
		}
		if found != named {
			t.Errorf("%s %s names %d things, of which %d are looked up", e.method, e.path, named, found)
		}
	}
}
