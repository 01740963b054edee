package process

import (
	"bytes"
	"testing"
)

func TestSaysVersion(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name string
		args []string
		want string
	}{
		{"asked", []string{"--version"}, "worker " + Version + "\n"},
		{"asked beside settings", []string{"--worker-slots", "3", "-version"}, "worker " + Version + "\n"},
		{"not asked", []string{"--worker-slots", "3"}, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if says := SaysVersion("worker", row.args, &out); says != (row.want != "") || out.String() != row.want {
				t.Errorf("SaysVersion(%q) = %v with %q, want %q", row.args, says, &out, row.want)
			}
		})
	}
}
