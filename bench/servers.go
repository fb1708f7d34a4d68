//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The servers that are measured: the bare one, and healthd with nothing set and
// with one thing set at a time. Secrets and the certificate are made here.

const (
	bare    = "bare"
	plain   = "healthd"
	basic   = "basic"
	aksk    = "aksk"
	jwt     = "jwt"
	overTLS = "tls"
	verbose = "verbose"
	targets = "targets"
)

// newServers builds the programs in dir and returns the servers by name, and a
// function that gives back what they need while they run.
func newServers(ctx context.Context, dir string) (all map[string]*server, release func(), err error) {
	healthd, err := build(ctx, dir, "healthd")
	if err != nil {
		return nil, nil, err
	}
	naive, err := build(ctx, dir, "example.com/healthd/bench/bare")
	if err != nil {
		return nil, nil, err
	}
	certificate, err := writeCertificate(dir)
	if err != nil {
		return nil, nil, err
	}
	behind, release, err := listenForTargets(3)
	if err != nil {
		return nil, nil, err
	}
	with := func(flags ...string) func(string) []string {
		return func(addr string) []string { return append([]string{"-addr", addr}, flags...) }
	}
	user, key, secret := "bench:"+rand.Text(), "AK"+rand.Text()+":"+rand.Text(), rand.Text()+rand.Text()
	authorization := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
	accessKey, secretKey, _ := strings.Cut(key, ":")
	all = map[string]*server{
		bare:  {path: naive, args: func(addr string) []string { return []string{addr} }},
		plain: {path: healthd, args: with()},
		basic: {path: healthd, args: with("-auth", "basic"), env: []string{"HEALTHD_BASIC=" + user},
			load: load{header: authorization}},
		aksk: {path: healthd, args: with("-auth", "aksk"), env: []string{"HEALTHD_AKSK=" + key},
			load: load{header: "X-Access-Key: " + accessKey + "\r\nX-Secret-Key: " + secretKey + "\r\n"}},
		jwt: {path: healthd, args: with("-auth", "jwt"), env: []string{"HEALTHD_JWT_SECRET=" + secret, "HEALTHD_BASIC=" + user},
			login: func(addr *net.TCPAddr) (string, error) { return token(addr, user) }},
		overTLS: {path: healthd, args: with("-tls-cert", filepath.Join(dir, "cert.pem"), "-tls-key", filepath.Join(dir, "key.pem")),
			load: load{tls: &tls.Config{RootCAs: certificate, ServerName: "127.0.0.1"}}},
		verbose: {path: healthd, args: with("-verbose")},
		targets: {path: healthd, args: with(behind...)},
	}
	for name, s := range all {
		s.name = name
	}
	return all, release, nil
}

// token is a header with a token that the server gives for user.
func token(addr *net.TCPAddr, credential string) (string, error) {
	request, err := http.NewRequest("POST", "http://"+addr.String()+"/token", nil)
	if err != nil {
		return "", err
	}
	user, password, _ := strings.Cut(credential, ":")
	request.SetBasicAuth(user, password)
	request.Close = true
	answer, err := (&http.Client{Timeout: patience}).Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var minted struct{ Token string }
	if err := json.NewDecoder(answer.Body).Decode(&minted); err != nil || minted.Token == "" {
		return "", fmt.Errorf("no token in the answer to POST /token: %v", err)
	}
	return "Authorization: Bearer " + minted.Token + "\r\n", nil
}

// writeCertificate makes cert.pem and key.pem in dir, self-signed with ECDSA
// P-256, and returns the pool of roots that a client trusts it by.
func writeCertificate(dir string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), certificate, 0o600); err != nil {
		return nil, err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	return roots, os.WriteFile(filepath.Join(dir, "key.pem"), private, 0o600)
}

// listenForTargets opens n ports that accept connections and drop them, and
// returns the flags that make them targets.
func listenForTargets(n int) (flags []string, release func(), err error) {
	var open []net.Listener
	release = func() {
		for _, l := range open {
			l.Close()
		}
	}
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			release()
			return nil, nil, err
		}
		open = append(open, l)
		flags = append(flags, "-target", "tcp://"+l.Addr().String())
		go func() { // ends when l is closed
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
	return flags, release, nil
}
