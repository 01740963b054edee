package redisconn

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Time limits of every client. A command that has no answer within
// replyTimeout is an error; what it did is then unknown.
const (
	dialTimeout  = 2 * time.Second
	replyTimeout = 3 * time.Second
)

// A Config says where Redis is. Only URL is needed; the package comment lists
// its forms.
type Config struct {
	URL string
	// Username and Password are used where URL names none, so that a secret can
	// come by another way than the URL.
	Username, Password string

	// CAFile holds the authorities to trust instead of the system's (PEM),
	// CertFile and KeyFile our own certificate, ServerName the name expected in
	// the server's. All of them need a URL with TLS.
	CAFile, CertFile, KeyFile, ServerName string

	// PoolSize is the number of connections kept; 0 means ten for each core.
	PoolSize int
	// ClientName is shown by CLIENT LIST.
	ClientName string
}

// Open returns a client that has answered a PING within ctx. It is a
// *redis.Client, except for a cluster's URL, where it is a
// *redis.ClusterClient. The caller closes it. Clients keep to the deadline of
// the context they are given.
func Open(ctx context.Context, c Config) (redis.UniversalClient, error) {
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("connect to redis at %s: %w", Redact(c.URL), err)
	}
	return client, nil
}

// newClient returns a client that has not connected yet.
func newClient(c Config) (redis.UniversalClient, error) {
	t, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := c.tls(t)
	if err != nil {
		return nil, err
	}
	t.username = cmp.Or(t.username, c.Username)
	t.password = cmp.Or(t.password, c.Password)
	options := &redis.UniversalOptions{
		Addrs:            t.addrs,
		DB:               t.db,
		Username:         t.username,
		Password:         t.password,
		MasterName:       t.master,
		SentinelUsername: t.sentinelUsername,
		SentinelPassword: t.sentinelPassword,
		TLSConfig:        tlsConfig,
		PoolSize:         c.PoolSize,
		ClientName:       c.ClientName,

		DialTimeout:           dialTimeout,
		ReadTimeout:           replyTimeout,
		WriteTimeout:          replyTimeout,
		ContextTimeoutEnabled: true,
		// A command is tried again as a whole; dialling five times within each
		// try would make an outage last seconds longer for every caller.
		DialerRetries: 1,
		// Both cost extra commands on each new connection, and an ACL would
		// have to allow them.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	switch t.kind {
	case cluster:
		client := redis.NewClusterClient(options.Cluster())
		client.AddHook(topologyHook{client})
		return client, nil
	case sentinel:
		return redis.NewFailoverClient(options.Failover()), nil
	case unixSocket:
		simple := options.Simple()
		simple.Network = "unix"
		return redis.NewClient(simple), nil
	default:
		return redis.NewClient(options.Simple()), nil
	}
}

// tls returns the TLS settings, nil for a URL without TLS.
func (c Config) tls(t target) (*tls.Config, error) {
	if !t.tls {
		if c.CAFile+c.CertFile+c.KeyFile+c.ServerName != "" {
			return nil, fmt.Errorf("redis URL %q: TLS files are set, but only rediss:// URLs use TLS", Redact(c.URL))
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read redis CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read redis CA file: %s holds no certificate", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("redis TLS: certificate file and key file have to be set together")
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load redis client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

// LogTo sends what go-redis itself has to say, such as failed dials, to log at
// level debug: callers get the same as errors. It holds for the whole process
// and belongs at the start of a main, as go-redis knows one logger only.
func LogTo(log *slog.Logger) {
	redis.SetLogger(slogPrinter{log})
}

type slogPrinter struct{ log *slog.Logger }

func (p slogPrinter) Printf(ctx context.Context, format string, v ...any) {
	if p.log.Enabled(ctx, slog.LevelDebug) {
		p.log.DebugContext(ctx, "redis client", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}
