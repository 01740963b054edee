package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// A door is a part of the path space with one dialect.
type door struct {
	prefix string
	api    Mounter
	form   form // what is said where the API has no word of its own
}

// doors lists the path space, narrow prefixes first.
func doors(d Deps) []door {
	return []door{
		{"/zstack", d.ZStack, zstackForm},
		{"/v1", d.ZStack, zstackForm},
		{"/api", d.Native, problemForm},
		{"", d.Console, plainForm},
	}
}

// door returns the door that a path leads to.
func (s *Server) door(path string) door {
	for _, d := range s.doors {
		rest, ok := strings.CutPrefix(path, d.prefix)
		if ok && (d.prefix == "" || rest == "" || rest[0] == '/') {
			return d
		}
	}
	return s.doors[len(s.doors)-1]
}

// router builds the routes of all APIs and of the server itself.
func (s *Server) router() (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode) // the other modes print each route to stdout
	r := gin.New()
	if err := r.SetTrustedProxies(s.deps.TrustedProxies); err != nil {
		return nil, fmt.Errorf("read trusted proxies: %w", err)
	}
	// A client of a vendor's API gets the vendor's 404 for a path with a slash
	// too many, as it would from the vendor.
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	// An escaped slash is part of a name and ends no segment.
	r.UseRawPath = true
	r.UnescapePathValues = true

	r.Use(nameRequest, s.observe, s.recover, guardHeaders, s.endStreams)
	r.NoRoute(s.noRoute)
	r.NoMethod(s.noMethod)
	both(r, "/healthz", gin.WrapF(s.deps.Health.Live))
	both(r, "/readyz", gin.WrapF(s.deps.Health.Ready))
	mount(r, "/api/v1", s.deps.Native)
	mount(r, "/zstack/v1", s.deps.ZStack)
	mount(r, "/v1", s.deps.ZStack)
	mount(r, "", s.deps.Console)
	return r, nil
}

func mount(r *gin.Engine, prefix string, api Mounter) {
	if api != nil {
		api.Mount(r.Group(prefix))
	}
}

// both serves GET and HEAD: probes use either.
func both(r *gin.Engine, path string, h gin.HandlerFunc) {
	r.GET(path, h)
	r.HEAD(path, h)
}

// What an API may have besides Mount, to answer in its own words for its part
// of the path space.
type (
	noRouter   interface{ NoRoute(*gin.Context) }  // no such path
	noMethoder interface{ NoMethod(*gin.Context) } // no such method; the Allow header is set
	failer     interface{ Failed(*gin.Context) }   // its handler has panicked
)

func (s *Server) noRoute(c *gin.Context) {
	d := s.door(c.Request.URL.Path)
	if api, ok := d.api.(noRouter); ok {
		api.NoRoute(c)
		return
	}
	d.form(c, http.StatusNotFound, "no api mapping to "+c.Request.URL.Path)
}

func (s *Server) noMethod(c *gin.Context) {
	d := s.door(c.Request.URL.Path)
	if api, ok := d.api.(noMethoder); ok {
		api.NoMethod(c)
		return
	}
	d.form(c, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not possible here; use %s", c.Request.Method, c.Writer.Header().Get("Allow")))
}

func (s *Server) failed(c *gin.Context) {
	d := s.door(c.Request.URL.Path)
	if api, ok := d.api.(failer); ok {
		api.Failed(c)
		return
	}
	d.form(c, http.StatusInternalServerError, "an internal error happened; the server's log says more")
}
