package cbt_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
)

func TestChainBrokenSaysWhereItIsBroken(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name string
		err  cbt.ChainBroken
		want string
	}{
		{"one volume", cbt.ChainBroken{Volume: "4d1c2b0e7c2a4b579a620d3d7a1b9f02", Seq: 1, Why: cbt.WhyAbsent}, "checkpoint 1 is absent on volume 4d1c2b0e7c2a4b579a620d3d7a1b9f02"},
		{"no single one", cbt.ChainBroken{Seq: 7, Why: cbt.WhyUnknown}, "checkpoint 7 is unknown"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := row.err.Error(); got != row.want {
				t.Errorf("Error() = %q, want %q", got, row.want)
			}
		})
	}
}
