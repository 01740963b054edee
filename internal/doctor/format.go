package doctor

import (
	"context"
	"fmt"

	"github.com/takt-dev/takt/internal/store"
)

// format compares the format that stands in Redis with the one that this version writes.
func (c *chart) format(ctx context.Context) {
	switch stands, err := c.Records.Format(ctx); {
	case err != nil:
		c.unread(Records, "format", err)
	case stands > store.Format:
		c.problem(Records, "format", fmt.Sprintf("this Redis was written by a newer Takt (format %d, this one knows %d): processes of this version do not start here, and what else is told may be wrong", stands, store.Format),
			"install that version, or restore a copy made before the upgrade; and look with that version's doctor")
	case stands < store.Format:
		c.ok(Records, "format", fmt.Sprintf("no process that writes format %d has been started here yet", store.Format))
	default:
		c.ok(Records, "format", fmt.Sprintf("format %d, as this version writes it", stands))
	}
}
