package zstack

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The vectors are of openssl:
//
//	printf 'GET\nFri, 20 Nov 2026 12:00:00 Etc/UTC\n/v1/scheduler/jobs' |
//	    openssl dgst -sha1 -hmac thesecretthesecretthesecretthesecret1234 -binary | base64
const vectorSecret = "thesecretthesecretthesecretthesecret1234"

func TestSignatureVectors(t *testing.T) {
	a := New(nil, nil, Options{Now: func() time.Time { return noon }})
	for _, row := range []struct {
		name, method, target, date, mac string
		want                            bool
	}{
		{"Java form", "GET", "/zstack/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", true},
		{"without the context path", "GET", "/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", true},
		{"query left out", "GET", "/v1/scheduler/jobs?q=name=x&limit=1", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", true},
		{"Go form", "POST", "/zstack/v1/scheduler/jobs", "Fri, 20 Nov 2026 20:00:00 CST", "oLMNoPAh0uMo6DFHnzn4hNg4Unw=", true},
		{"PUT", "PUT", "/zstack/v1/schedulers/5c0f1e6ad1a04bb2b9a7c6f1e2d3c4b5", "Fri, 20 Nov 2026 13:00:00 Europe/Berlin", "tHAzwy4iD/QqL6EOxG9swxqVGkk=", true},
		{"decoded path", "DELETE", "/v1/scheduler/jobgroups/a%20b%2Fc", "Fri, 20 Nov 2026 12:00:00 UTC", "kw05Mb2UtFJbRjrduZXMeVhjMXk=", true},
		{"another method", "DELETE", "/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", false},
		{"another date", "GET", "/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:01 Etc/UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", false},
		{"another spelling of the date", "GET", "/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:00 UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", false},
		{"another path", "GET", "/v1/scheduler/triggers", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "bhs64C34MRmDVi0G2lkvWazUMcw=", false},
		{"cut short", "GET", "/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "AAAA", false},
		{"no base64", "GET", "/v1/scheduler/jobs", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", "%%%%", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			u, err := url.ParseRequestURI(row.target)
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Method: row.method, URL: u, Header: http.Header{"Date": {row.date}}}
			s, err := a.readSignature(r, "theid:"+row.mac)
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			if got := s.matches([]byte(vectorSecret)); got != row.want || s.key != "theid" {
				t.Errorf("signature of %q by key %q: matches %v, want %v by theid", s.text, s.key, got, row.want)
			}
			if s.matches([]byte(vectorSecret + "x")) {
				t.Errorf("another secret matches")
			}
		})
	}
}

// A header is refused or read; what is read has a key and cannot be taken for two.
func FuzzSignatureHeader(f *testing.F) {
	a := New(nil, nil, Options{Now: func() time.Time { return noon }})
	f.Add("id:c2ln")
	f.Add(":c2ln")
	f.Add("id:")
	f.Add("id:a:b")
	f.Add(" id : sig ")
	f.Add("ZStack id:sig")
	f.Fuzz(func(t *testing.T, presented string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/zstack/v1/x"}, Header: http.Header{"Date": {"Fri, 20 Nov 2026 12:00:00 UTC"}}}
		s, err := a.readSignature(r, presented)
		var refused *fault
		if errors.As(err, &refused) {
			if refused.status != http.StatusBadRequest || !strings.Contains(refused.details, "accessKey format is") {
				t.Errorf("header %q: got %v", presented, refused)
			}
			return
		}
		if err != nil || s.key == "" || strings.Contains(s.key, ":") || strings.Count(presented, ":") != 1 || !strings.HasPrefix(presented, s.key+":") {
			t.Errorf("header %q: got key %q and error %v", presented, s.key, err)
		}
		if s.text != "GET\nFri, 20 Nov 2026 12:00:00 UTC\n/v1/x" {
			t.Errorf("header %q: signs %q", presented, s.text)
		}
	})
}
