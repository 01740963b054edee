package cbttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certs makes a directory of TLS certificates for 127.0.0.1, in the form that
// cbt.Listen wants.
func Certs(t testing.TB) string {
	t.Helper()
	dir := Dir(t)
	authority := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", authority, []net.IP{net.IPv4(127, 0, 0, 1)})
	certificate(t, dir, "client", authority, nil)
	return dir
}

type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func certificate(t testing.TB, dir, name string, by *signer, addresses []net.IP) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: addresses, BasicConstraintsValid: true,
	}
	self := &signer{template, key}
	if by == nil {
		template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		by = self
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatalf("make certificate: %v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("encode key: %v", err)
	}
	save(t, filepath.Join(dir, name+"-cert.pem"), "CERTIFICATE", der)
	save(t, filepath.Join(dir, name+"-key.pem"), "PRIVATE KEY", private)
	return self
}

func save(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatalf("save certificate: %v", err)
	}
}
