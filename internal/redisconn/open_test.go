package redisconn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
)

func TestOpenSpeaksToARealServer(t *testing.T) {
	server := testenv.Redis(t)
	client := open(t, redisconn.Config{URL: server.URL, ClientName: "takt-test"})
	if _, ok := client.(*redis.Client); !ok {
		t.Errorf("Open returned a %T, want *redis.Client", client)
	}
	if name, err := client.ClientGetName(t.Context()).Result(); err != nil || name != "takt-test" {
		t.Errorf("CLIENT GETNAME = %q, %v, want takt-test", name, err)
	}

	// The database in the URL is the one that is used.
	other := open(t, redisconn.Config{URL: server.URL + "?db=3"})
	if err := other.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Errorf("EXISTS in database 0 = %d, %v, want 0: the key went to database 3", n, err)
	}
}

func TestOpenTakesThePasswordFromBesideTheURL(t *testing.T) {
	server := testenv.Redis(t)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	open(t, redisconn.Config{URL: "unix://" + u.Path, Password: password})

	_, err = redisconn.Open(t.Context(), redisconn.Config{URL: "unix://" + u.Path})
	if err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("Open without a password: %v, want NOAUTH", err)
	}
}

func TestOpenErrorsNameTheServerAndNotThePassword(t *testing.T) {
	server := testenv.Redis(t)
	wrong := strings.Replace(server.URL, "secret-of-", "hunter2-", 1)
	refused := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	for name, rawURL := range map[string]string{
		"wrong password": wrong,
		"nobody there":   "redis://me:hunter2@" + refused.String() + "/0",
		"cluster":        "redis-cluster://me:hunter2@" + refused.String(),
		"sentinel":       "redis-sentinel://me:hunter2@" + refused.String() + "/m?sentinelPassword=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			client, err := redisconn.Open(ctx, redisconn.Config{URL: rawURL})
			if err == nil {
				client.Close()
				t.Fatal("Open succeeded")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds the password: %v", err)
			}
			if want := "connect to redis at " + redisconn.Redact(rawURL); !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error = %v, want it to begin with %q", err, want)
			}
		})
	}
}

func TestOpenKeepsToTheContext(t *testing.T) {
	server := testenv.Redis(t)
	server.Freeze()
	defer server.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := redisconn.Open(ctx, redisconn.Config{URL: server.URL})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open of a frozen server: %v, want a deadline error", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Open took %v although its context ended after 50ms", took)
	}
}

func TestOpenOverTLS(t *testing.T) {
	server := testenv.Redis(t)
	ca, cert, addr := tlsFront(t, server.URL)
	u, _ := url.Parse(server.URL)
	rawURL := "rediss://" + u.User.String() + "@" + addr

	open(t, redisconn.Config{URL: rawURL, CAFile: ca, ServerName: "redis.test", CertFile: cert, KeyFile: cert})

	rows := []struct {
		name   string
		config redisconn.Config
		want   string
	}{
		{"unknown authority", redisconn.Config{URL: rawURL, ServerName: "redis.test"}, "certificate"},
		{"other name", redisconn.Config{URL: rawURL, CAFile: ca, ServerName: "other.test"}, "other.test"},
		{"CA file missing", redisconn.Config{URL: rawURL, CAFile: ca + "x"}, "read redis CA file"},
		{"CA file empty", redisconn.Config{URL: rawURL, CAFile: os.DevNull}, "holds no certificate"},
		{"certificate without key", redisconn.Config{URL: rawURL, CAFile: ca, CertFile: cert}, "set together"},
		{"files without TLS", redisconn.Config{URL: server.URL, CAFile: ca}, "only rediss:// URLs use TLS"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			client, err := redisconn.Open(t.Context(), row.config)
			if err == nil {
				client.Close()
			}
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("Open: %v, want an error with %q", err, row.want)
			}
		})
	}
}

func open(t *testing.T, config redisconn.Config) redis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(t.Context(), config)
	if err != nil {
		t.Fatalf("Open(%s): %v", redisconn.Redact(config.URL), err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// tlsFront puts a TLS listener with a certificate for redis.test before the
// server and returns its CA file, a file with certificate and key, and address.
func tlsFront(t *testing.T, serverURL string) (ca, cert, addr string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "redis.test"},
		DNSNames:     []string{"redis.test"},
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	ca, cert = filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "cert.pem")
	if err := errors.Join(os.WriteFile(ca, certPEM, 0o600), os.WriteFile(cert, append(certPEM, keyPEM...), 0o600)); err != nil {
		t.Fatal(err)
	}

	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	socket, _ := url.Parse(serverURL)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go splice(conn, socket.Path)
		}
	}()
	return ca, cert, listener.Addr().String()
}

// splice joins conn with the unix socket until either side ends.
func splice(conn net.Conn, socket string) {
	defer conn.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(server, conn)
		server.Close()
	}()
	io.Copy(conn, server)
}
