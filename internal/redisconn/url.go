package redisconn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A target is what a URL says.
type target struct {
	kind               targetKind
	tls                bool
	addrs              []string // host:port, or the one path of a unix socket
	username, password string
	db                 int

	// Sentinel only.
	master                             string
	sentinelUsername, sentinelPassword string
}

type targetKind int

const (
	single targetKind = iota
	unixSocket
	sentinel
	cluster
)

// schemes lists the URL schemes and the port each assumes.
var schemes = map[string]struct {
	kind targetKind
	tls  bool
	port string
}{
	"redis":           {single, false, "6379"},
	"rediss":          {single, true, "6379"},
	"unix":            {unixSocket, false, ""},
	"redis-sentinel":  {sentinel, false, "26379"},
	"rediss-sentinel": {sentinel, true, "26379"},
	"redis-cluster":   {cluster, false, "6379"},
	"rediss-cluster":  {cluster, true, "6379"},
}

// ValidURL returns nil when Open could use rawURL, without connecting.
func ValidURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

// parseURL does not use net/url.Parse: it refuses lists of hosts, and its
// errors repeat the password.
func parseURL(rawURL string) (target, error) {
	t, err := parseTarget(rawURL)
	if err != nil {
		// err says what is wrong and never quotes the value.
		return target{}, fmt.Errorf("redis URL %q: %w", Redact(rawURL), err)
	}
	return t, nil
}

func parseTarget(rawURL string) (t target, err error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	known, isKnown := schemes[scheme]
	if !ok || !isKnown {
		return t, errors.New("it has to begin with redis://, rediss://, unix://, redis-sentinel:// or redis-cluster://")
	}
	t.kind, t.tls = known.kind, known.tls

	rest, rawQuery, _ := strings.Cut(rest, "?")
	if strings.Contains(rawQuery, "@") {
		return t, errors.New("special characters of the password, such as ?, have to be in percent form")
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if t.username, t.password, err = parseUserInfo(rest[:at]); err != nil {
			return t, err
		}
		rest = rest[at+1:]
	}
	if err := t.parseQuery(rawQuery); err != nil {
		return t, err
	}
	if t.kind == unixSocket {
		return t, t.parseSocket(rest)
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if t.addrs, err = parseHosts(hosts, known.port); err != nil {
		return t, err
	}
	if err := t.parsePath(path); err != nil {
		return t, err
	}
	return t, t.check()
}

func parseUserInfo(s string) (username, password string, err error) {
	username, password, _ = strings.Cut(s, ":")
	username, err = url.PathUnescape(username)
	if err == nil {
		password, err = url.PathUnescape(password)
	}
	if err != nil {
		return "", "", errors.New("user or password has a broken percent escape")
	}
	return username, password, nil
}

func (t *target) parseQuery(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("the query cannot be read")
	}
	for name := range values {
		value := values.Get(name)
		switch name {
		case "db":
			err = t.setDB(value)
		case "master":
			t.master = value
		case "sentinelUsername":
			t.sentinelUsername = value
		case "sentinelPassword":
			t.sentinelPassword = value
		default:
			err = fmt.Errorf("unknown query parameter %q: db, master, sentinelUsername and sentinelPassword exist", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *target) setDB(text string) error {
	db, err := strconv.Atoi(text)
	if err != nil || db < 0 {
		return errors.New("the database has to be a number from 0")
	}
	t.db = db
	return nil
}

func (t *target) parseSocket(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New("the socket's path has to be absolute: unix:///run/redis.sock")
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return errors.New("the socket's path has a broken percent escape")
	}
	t.addrs = []string{path}
	return nil
}

func parseHosts(list, defaultPort string) ([]string, error) {
	var addrs []string
	for host := range strings.SplitSeq(list, ",") {
		addr, err := withPort(host, defaultPort)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

func withPort(host, defaultPort string) (string, error) {
	port := defaultPort
	if name, p, err := net.SplitHostPort(host); err == nil {
		host, port = name, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if host == "" {
		return "", errors.New("a host is missing")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", errors.New("a port is not a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// parsePath reads /db, and for Sentinel /master/db.
func (t *target) parsePath(path string) error {
	path = strings.TrimSuffix(path, "/")
	if t.kind == sentinel && path != "" {
		t.master, path, _ = strings.Cut(path, "/")
	}
	if path == "" {
		return nil
	}
	return t.setDB(path)
}

func (t *target) check() error {
	switch {
	case t.kind == single && len(t.addrs) > 1:
		return errors.New("several hosts need redis-sentinel:// or redis-cluster://")
	case t.kind == sentinel && t.master == "":
		return errors.New("the master's name is missing: redis-sentinel://host/name")
	case t.kind != sentinel && t.master+t.sentinelUsername+t.sentinelPassword != "":
		return errors.New("master and sentinel parameters belong to redis-sentinel://")
	case t.kind == cluster && t.db != 0:
		return errors.New("a cluster has database 0 only")
	}
	return nil
}

// Redact returns the URL with *** for every password, fit for logs. It copes
// with any text, also with URLs that Open refuses.
func Redact(rawURL string) string {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		scheme, rest = "", rawURL
	} else {
		scheme += "://"
	}
	// The last @ of all: an unescaped password may hold /, ? and @ itself.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, hasPassword := strings.Cut(rest[:at], ":")
		if !hasPassword {
			user = "***"
		} else {
			user += ":***"
		}
		rest = user + rest[at:]
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if !hasQuery {
		return scheme + rest
	}
	params := strings.Split(query, "&")
	for i, param := range params {
		if name, _, ok := strings.Cut(param, "="); ok && strings.Contains(strings.ToLower(name), "password") {
			params[i] = name + "=***"
		}
	}
	return scheme + rest + "?" + strings.Join(params, "&")
}
