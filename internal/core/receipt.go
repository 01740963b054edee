package core

import "time"

// A Receipt is the answer to an asynchronous request: a client polls it by its
// id, which is never a run's id. Any replica answers, also after a restart.
type Receipt struct {
	ID      string    `json:"id"`
	Account string    `json:"account,omitempty"`
	Call    string    `json:"call"` // name of the API call
	Done    bool      `json:"done"`
	OK      bool      `json:"ok"`
	Body    []byte    `json:"body,omitempty"` // the dialect's answer, as sent
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended,omitzero"`
}
