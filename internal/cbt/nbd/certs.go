package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
)

// Names of the files in a directory of certificates, as QEMU wants them.
const (
	caFile         = "ca-cert.pem"
	serverCertFile = "server-cert.pem"
	serverKeyFile  = "server-key.pem"
	clientCertFile = "client-cert.pem"
	clientKeyFile  = "client-key.pem"
)

// ClientTLS reads what a client needs from a directory of certificates. serverName is
// the name or address that the server's certificate has to bear.
func ClientTLS(dir, serverName string) (*tls.Config, error) {
	pool, pair, err := load(dir, clientCertFile, clientKeyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: serverName}, nil
}

// ServerTLS reads what a server needs from a directory of certificates. Clients have
// to show a certificate of the same authority.
func ServerTLS(dir string) (*tls.Config, error) {
	pool, pair, err := load(dir, serverCertFile, serverKeyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{pair},
	}, nil
}

func load(dir, certFile, keyFile string) (*x509.CertPool, tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	if err != nil {
		return nil, pair, fmt.Errorf("load certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		return nil, pair, fmt.Errorf("load authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, pair, fmt.Errorf("load authority: no certificate in %s", caFile)
	}
	return pool, pair, nil
}
