package process

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// localZone gives the IANA name of the server's local zone: TZ, else what
// /etc/localtime or /etc/timezone name, else UTC.
func localZone() string {
	if name := os.Getenv("TZ"); name != "" {
		return strings.TrimPrefix(name, ":")
	}
	if name := time.Local.String(); name != "" && name != "Local" {
		return name
	}
	if target, err := filepath.EvalSymlinks("/etc/localtime"); err == nil {
		if _, name, ok := strings.Cut(target, "/zoneinfo/"); ok {
			return name
		}
	}
	if text, err := os.ReadFile("/etc/timezone"); err == nil && strings.TrimSpace(string(text)) != "" {
		return strings.TrimSpace(string(text))
	}
	return "UTC"
}
