package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
)

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// monitoringPolicy returns the content policy for asynqmon's page. The page has
// scripts within it, which are allowed by their hashes: a script that finds its
// way in by a task's name or error still does not run. Its styles are made by
// scripts and cannot be named beforehand. The page asks for fonts at Google,
// which is not allowed: who runs Takt tells nobody, and does without the net.
func monitoringPolicy(page []byte) string {
	scripts := []string{"'self'"}
	for _, found := range inlineScript.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(found[1])
		scripts = append(scripts, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src " + strings.Join(scripts, " "),
		"style-src 'self' 'unsafe-inline'",
		"img-src 'self' data:",
		"font-src 'self'",
		"connect-src 'self'",
		"manifest-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// pageOf returns asynqmon's page as it is sent to browsers.
func pageOf(handler http.Handler) []byte {
	r, err := http.NewRequest(http.MethodGet, monitoringPath, nil)
	if err != nil { // all of it is constant
		panic(err)
	}
	w := &buffer{header: http.Header{}}
	handler.ServeHTTP(w, r)
	return w.body.Bytes()
}

// A buffer is an http.ResponseWriter that keeps the body.
type buffer struct {
	header http.Header
	body   bytes.Buffer
}

func (b *buffer) Header() http.Header         { return b.header }
func (b *buffer) WriteHeader(int)             {}
func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }
