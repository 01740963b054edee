package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A checker gathers what is wrong with the values of a configuration.
type checker struct {
	sources map[string]string
	errs    []error
}

// check returns the problems of a configuration whose values have been read.
func check(cfg any, sources map[string]string) []error {
	c := &checker{sources: sources}
	switch cfg := cfg.(type) {
	case *API:
		c.shared(cfg.Shared)
		c.api(cfg.APISettings)
	case *Worker:
		c.shared(cfg.Shared)
		c.worker(cfg.WorkerSettings)
	case *Trigger:
		c.shared(cfg.Shared)
	case *Dev:
		c.shared(cfg.Shared)
		c.api(cfg.API)
		c.worker(cfg.Worker)
	}
	slices.SortFunc(c.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c.errs
}

// that notes a problem unless ok.
func (c *checker) that(ok bool, path string, value any, want string) {
	if ok {
		return
	}
	source := c.sources[path]
	if source == "" {
		source = "not set"
	}
	c.errs = append(c.errs, fmt.Errorf("%s: %q (%s) is not right: %s", path, fmt.Sprint(value), source, want))
}

func (c *checker) shared(s Shared) {
	c.redis(s.Redis)
	c.nats("nats", s.NATS)
	c.oneOf("log.level", s.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", s.Log.Format, "text", "json")
	if s.Metrics.Listen != "" {
		c.address("metrics.listen", s.Metrics.Listen)
	}
}

func (c *checker) redis(r Redis) {
	c.that(r.URL == "" || strings.Contains(r.URL, "://"), "redis.url", maskedURL(r.URL), "want a URL such as redis://host:6379/0")
	c.between("redis.poolSize", r.PoolSize, 0, 10_000)
	c.together("redis.certFile", r.CertFile, "redis.keyFile", r.KeyFile)
}

func (c *checker) nats(at string, n NATS) {
	for _, u := range n.URLs {
		scheme, _, _ := strings.Cut(u, "://")
		c.that(scheme == "nats" || scheme == "tls", at+".urls", maskedURL(u), "want URLs such as nats://host:4222 or tls://host:4222")
	}
	ways := 0
	for _, way := range []string{n.CredentialsFile, n.User, n.Token} {
		if way != "" {
			ways++
		}
	}
	c.that(ways <= 1, at+".user", n.User, "want one of credentialsFile, user and token only")
	c.that(n.Password == "" || n.User != "", at+".password", stars, "want a user beside the password")
	c.together(at+".certFile", n.CertFile, at+".keyFile", n.KeyFile)
}

func (c *checker) api(s APISettings) {
	c.address("api.listen", s.Listen)
	_, err := time.LoadLocation(s.ZStack.TimeZone) //nolint:forbidigo // only whether the name is one; the process resolves it with the embedded data
	c.that(err == nil, "api.zstack.timezone", s.ZStack.TimeZone, "want Local, UTC or a zone name such as Asia/Shanghai")
	c.that(strings.TrimSpace(s.Admin.Name) == s.Admin.Name, "api.admin.name", s.Admin.Name, "want a name without spaces around it")
	for _, proxy := range s.TrustedProxies {
		_, _, err := net.ParseCIDR(proxy)
		c.that(err == nil || net.ParseIP(proxy) != nil, "api.trustedProxies", proxy, "want addresses or networks, such as 10.0.0.5 or 10.0.0.0/8")
	}
	c.atLeast("api.sessionLife", s.SessionLife, time.Minute)
	c.that(s.BodyLimit >= 1<<10 && s.BodyLimit <= 1<<30, "api.bodyLimit", s.BodyLimit, "want 1KiB to 1GiB")
	c.atLeast("api.retention.runs", s.Retention.Runs, time.Minute)
	c.atLeast("api.retention.ledger", s.Retention.Ledger, time.Minute)
	c.between("api.retention.ledgerEntries", s.Retention.LedgerEntries, 1, 1_000_000)
	c.atLeast("api.retention.receipts", s.Retention.Receipts, time.Minute)
	c.between("api.limits.groupJobs", s.Limits.GroupJobs, 1, 10_000) // the steps of a run
	c.between("api.limits.targetTriggers", s.Limits.TargetTriggers, 1, 1000)
	c.secretKey("api.secretKey", s.SecretKey)
	c.between("api.partitions", s.Partitions, 1, 256)
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)
	queuePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*$`)
	namePattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	hostPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
)

func (c *checker) worker(s WorkerSettings) {
	// The host is part of a queue's name.
	c.that(hostPattern.MatchString(s.Host), "worker.host", s.Host, "want letters, digits, dots, dashes and underscores")
	for _, uuid := range s.Resources {
		c.that(uuidPattern.MatchString(uuid), "worker.resources", uuid, "want uuids")
	}
	c.between("worker.slots", s.Slots, 1, 10_000)
	c.secretKey("worker.secretKey", s.SecretKey)
	for name, weight := range s.Queues {
		c.that(queuePattern.MatchString(name) && weight > 0, "worker.queues", fmt.Sprintf("%s=%d", name, weight), "want lower-case names with weights from 1")
	}
	c.between("worker.dequeuers", s.Dequeuers, 1, 64)
	c.atLeast("worker.drain", s.Drain, 0)
	c.atLeast("worker.http.timeout", s.HTTP.Timeout, time.Millisecond)
	for _, command := range s.Shell.Allow {
		c.that(filepath.IsAbs(command.Path), "worker.shell.allow", command.Path, "want absolute paths of programs")
	}
	for _, root := range s.Shell.Roots {
		c.that(filepath.IsAbs(root), "worker.shell.roots", root, "want absolute paths")
	}
	c.names("worker.shell.env", s.Shell.Env)
	c.names("worker.shell.passEnv", s.Shell.PassEnv)
	c.atLeast("worker.shell.grace", s.Shell.Grace, 0)
	c.nats("worker.natsRequest", s.NATSRequest.NATS)
	c.cbt(s.CBT)
}

func (c *checker) address(path, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	c.that(err == nil, path, address, "want host:port, such as 127.0.0.1:8080 or :8080")
}

func (c *checker) oneOf(path, value string, wanted ...string) {
	for _, w := range wanted {
		if value == w {
			return
		}
	}
	c.that(false, path, value, "want "+strings.Join(wanted, ", "))
}

func (c *checker) between(path string, n, least, most int) {
	c.that(least <= n && n <= most, path, n, fmt.Sprintf("want %d to %d", least, most))
}

func (c *checker) secretKey(path, text string) {
	if text == "" {
		return
	}
	key, err := base64.StdEncoding.DecodeString(text)
	c.that(err == nil && len(key) == 32, path, stars, "want 32 bytes in base64, as openssl rand -base64 32 writes them")
}

func (c *checker) atLeast(path string, d, least time.Duration) {
	c.that(d >= least, path, formatDuration(d), "want at least "+formatDuration(least))
}

func (c *checker) names(path string, names []string) {
	for _, name := range names {
		c.that(namePattern.MatchString(name), path, name, "want names of environment variables")
	}
}

func (c *checker) together(pathA, a, pathB, b string) {
	missing, other := pathA, pathB
	if a != "" {
		missing, other = pathB, pathA
	}
	c.that((a == "") == (b == ""), missing, "", "it has to be set together with "+other)
}
