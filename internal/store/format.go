package store

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
)

// Format is the format of what this version writes. It is raised by a change after
// which an older version would misread what stands in Redis, and by no other: fields
// that an older one may ignore need no new format.
const Format = 1

// formatKey lies with the fleet, where the Redis users of all three processes may read
// and write.
const formatKey = fleetRoot + ":format"

// AdoptFormat is for the start of a process: it notes Format in Redis where that says
// less or nothing. Where a newer version has been, it is a Conflict and the process must
// not run. One that runs already when the format is raised is not stopped.
func (s *Store) AdoptFormat(ctx context.Context) error {
	stands, err := formatScript.Run(ctx, s.rdb, []string{formatKey}, Format).Int()
	if err != nil {
		return unavailable("read the format", err)
	}
	if stands > Format {
		return core.Errorf(core.Conflict, "this Redis was written by a newer Takt (format %d, this one knows %d): install that version, or restore a copy made before the upgrade", stands, Format)
	}
	return nil
}

// Format reads the format that stands in Redis, 0 where no process of a version that
// notes it has been, and changes nothing.
func (s *Store) Format(ctx context.Context) (int, error) {
	stands, err := s.rdb.Get(ctx, formatKey).Int()
	if isNil(err) {
		return 0, nil
	}
	return stands, unavailable("read the format", err)
}
