package core

import "time"

// A Card is what a process says of itself while it lives, so that a look at
// Redis tells what no single machine knows: whose clock is off, who reads time
// zones otherwise, who still runs an old version.
type Card struct {
	ID      string `json:"id"`   // of the process: another one after a restart
	Role    string `json:"role"` // api, worker or trigger
	Host    string `json:"host"`
	Version string `json:"version"`
	// Ahead is by how much the process's clock is ahead of Redis TIME, and
	// RoundTrip how long the measurement took: Ahead is right to half of it.
	Ahead     time.Duration `json:"ahead"`
	RoundTrip time.Duration `json:"roundTrip"`
	// Zones is the version of the time zone rules that slots are computed with,
	// and ZonesHash tells apart what has the same version and differs.
	Zones     string `json:"zones"`
	ZonesHash string `json:"zonesHash"`
	// Zone is what an api process takes for the zone of ZStack's clients, IANA name;
	// "" of other processes, and of apis older than it.
	Zone    string    `json:"zone,omitempty"`
	Cores   int       `json:"cores"`   // GOMAXPROCS
	Started time.Time `json:"started"` // by Redis TIME, as Seen is
	Seen    time.Time `json:"seen"`
}

// CardPace is how often a process writes its card, and CardLife how old the
// card of a living process may be.
const (
	CardPace = 10 * time.Second
	CardLife = 3 * CardPace
)
