package core

import "time"

// Bounds of an access key. MaxDescription bounds its description.
const (
	// MinAccessKey is the least length of its id and its secret, in characters.
	MinAccessKey = 10
	// AccessKeyID and AccessKeySecret are the length of an id and a secret that
	// are made for the client, and the greatest that a client may choose.
	AccessKeyID     = 20
	AccessKeySecret = 40
)

// An AccessKey lets a program act as an account by signing each of its requests
// with a secret that is never sent. Both sides need the secret itself, so that it
// is stored sealed where a session or a token is stored as a hash.
type AccessKey struct {
	UUID        string    `json:"uuid"`
	ID          string    `json:"id"`      // what a signed request names
	Account     string    `json:"account"` // whom it acts as
	Owner       string    `json:"owner"`   // that account's owner
	Description string    `json:"description,omitempty"`
	Secret      string    `json:"secret"` // sealed; clear in what creates the key, "" elsewhere
	Disabled    bool      `json:"disabled,omitempty"`
	Request     string    `json:"request,omitempty"` // names the request that made it; "" = none
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
}
