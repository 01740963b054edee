package core

import "time"

// A Token lets a program act as an account without signing in. Its text is
// shown once, when it is made; only a hash of it is stored.
type Token struct {
	UUID    string    `json:"uuid"` // names the token; it is not its text
	Account string    `json:"account"`
	Name    string    `json:"name"` // what the token is for, in its maker's words
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: it does not expire
}
