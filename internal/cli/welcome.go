package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// welcome prints the addresses and the first steps. The commands work as
// printed: a test runs them.
func welcome(w io.Writer, h House) {
	fmt.Fprintf(w, "\nTakt is ready after %s.\n\n", h.Took.Round(time.Millisecond))
	fmt.Fprintf(w, "  Console     %s\n", h.URL)
	fmt.Fprintf(w, "  Queues      %s/monitoring\n", h.URL)
	fmt.Fprintf(w, "  Native API  %s/api/v1   (described at %s/api/v1/openapi.json)\n", h.URL, h.URL)
	fmt.Fprintf(w, "  ZStack API  %s/zstack/v1\n", h.URL)
	if h.Password != "" {
		fmt.Fprintf(w, "  Sign in as  %s / %s\n", h.Admin, h.Password)
	} else {
		fmt.Fprintf(w, "  Sign in as  %s, with the password you gave it\n", h.Admin)
	}
	if !h.Memory {
		fmt.Fprintf(w, "  Data        %s\n", h.Dir)
	}
	fmt.Fprintf(w, "  Your own workers join with %s\n", filepath.Join(h.Dir, workerEnv))
	fmt.Fprintf(w, "\nFirst steps, in another terminal: a group of one command, run now and every ten seconds.\n\n%s\n", FirstSteps(h))
}

// FirstSteps gives the shell commands that welcome prints.
func FirstSteps(h House) string {
	password := h.Password
	if password == "" {
		password = "YOUR-PASSWORD"
	}
	steps := `  takt=URL/api/v1
  token=$(curl -s $takt/sessions -H 'Content-Type: application/json' -d '{"name":"ADMIN","password":"PASSWORD"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  api() { curl -s -w '\n' -H "Authorization: Bearer $token" -H 'Content-Type: application/json' "$@"; }
  uuid() { sed 's/.*"uuid":"\([^"]*\)".*/\1/'; }
  job=$(api $takt/jobs -d '{"name":"hello","type":"shellCommand","parameters":{"argv":"[\"COMMAND\",\"hello\",\"world\"]"}}' | uuid)
  group=$(api $takt/groups -d '{"name":"greetings","type":"shellCommand"}' | uuid)
  api $takt/groups/$group/jobs -d "{\"jobs\":[\"$job\"]}"
  api -X POST $takt/groups/$group/runs
  trigger=$(api $takt/triggers -d '{"name":"every ten seconds","schedule":{"kind":"cron","dialect":"quartz","expression":"0/10 * * * * ?"}}' | uuid)
  api $takt/triggers/$trigger/targets -d "{\"kind\":\"group\",\"uuid\":\"$group\"}"
  api "$takt/runs?group=$group"
`
	return strings.NewReplacer("URL", h.URL, "ADMIN", h.Admin, "YOUR-PASSWORD", password, "PASSWORD", password, "COMMAND", h.Command).Replace(steps)
}
