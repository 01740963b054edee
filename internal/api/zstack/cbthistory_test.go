package zstack_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/api/zstack"
)

// What CBT tasks do is no history of scheduler jobs.
func TestCBTRunsAreNoJobHistory(t *testing.T) {
	vm := machines(1)[0]
	r, _ := attended(t, zstack.Options{}, vm)
	task := r.cbtTask(vm)
	r.do("POST", "/cbt-task/enable/"+task, "").ok()
	if rows := r.do("GET", "/scheduler/job/history", "").inventories(); len(rows) != 0 {
		t.Errorf("the history has %d rows, want none: %v", len(rows), rows)
	}
	if n := textNumber(r.do("GET", "/scheduler/job/history?count=true", "").ok()["total"]); n != "0" {
		t.Errorf("the history counts %s rows, want 0", n)
	}
}
