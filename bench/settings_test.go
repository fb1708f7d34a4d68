//go:build linux

package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The settings of healthd that are measured, one at a time, each with what a
// client then has to send. Every run makes its own secrets.

func (s server) with(flags ...string) server {
	s.args = slices.Concat(s.args, flags)
	return s
}

func (s server) basic() server {
	user := "bench:" + rand.Text()
	s.env = []string{"HEALTHD_BASIC=" + user}
	s.client.header = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
	return s.with("-auth", "basic")
}

func (s server) aksk() server {
	access, secret := rand.Text(), rand.Text()
	s.env = []string{"HEALTHD_AKSK=" + access + ":" + secret}
	s.client.header = "X-Access-Key: " + access + "\r\nX-Secret-Key: " + secret + "\r\n"
	return s.with("-auth", "aksk")
}

func (s server) jwt() server {
	secret := rand.Text() + rand.Text()
	part, exp := base64.RawURLEncoding.EncodeToString, time.Now().Add(time.Hour).Unix()
	token := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part(fmt.Appendf(nil, `{"sub":"bench","exp":%d}`, exp))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token))
	s.env = []string{"HEALTHD_JWT_SECRET=" + secret}
	s.client.header = "Authorization: Bearer " + token + "." + part(mac.Sum(nil)) + "\r\n"
	return s.with("-auth", "jwt")
}

// tls has a self-signed certificate with a P-256 key. The client resumes no
// session: every handshake is a full one.
func (s server) tls(b *testing.B) server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(b, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	check(b, err)
	template := &x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(b, err)
	cert, err := x509.ParseCertificate(der)
	check(b, err)
	certFile, keyFile := filepath.Join(b.TempDir(), "cert.pem"), filepath.Join(b.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		check(b, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	s.client.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	s.client.tls.RootCAs.AddCert(cert)
	return s.with("-tls-cert", certFile, "-tls-key", keyFile)
}

// targets has n targets. Nobody accepts: a connection in the backlog is one.
func (s server) targets(b *testing.B, n int) server {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(b, err)
		b.Cleanup(func() { l.Close() })
		s = s.with("-target", "tcp://"+l.Addr().String())
	}
	return s
}
