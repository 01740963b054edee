package schedule_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/schedule"
)

// Whoever brings another zoneinfo.zip changes RulesVersion with it, and this test.
func TestRulesVersionBelongsToTheDatabase(t *testing.T) {
	t.Parallel()
	if got, want := schedule.RulesHash(), "8f55634d05f8"; schedule.RulesVersion != "2025c" || got != want {
		t.Errorf("rules = %s %s, want 2025c %s: say in RulesVersion which release zoneinfo.zip is", schedule.RulesVersion, got, want)
	}
}
