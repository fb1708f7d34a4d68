package server

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/healthd/internal/reload"
)

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// selfSigned returns a certificate of key with this serial number.
func selfSigned(t *testing.T, key crypto.Signer, serial int64) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// startTLS runs a server with the one of certificates whose index is in the
// file that it names.
func startTLS(t *testing.T, certificates ...*tls.Certificate) (addr, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "index")
	choose(t, file, 0)
	value, err := reload.New("FILE", slog.New(slog.DiscardHandler), func(contents [][]byte) (*tls.Certificate, error) {
		return certificates[contents[0][0]-'0'], nil
	}, reload.File{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	go value.Watch(t.Context())
	return startServer(t, &Server{Handler: ok, Certificate: value}), file
}

func choose(t *testing.T, file string, index byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte{'0' + index}, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestTLSHasModernVersionsAndCiphersOnly(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey := newKey(t, elliptic.P256())
	ofRSA, _ := startTLS(t, selfSigned(t, rsaKey, 1))
	ofEC, _ := startTLS(t, selfSigned(t, ecKey, 2))
	for _, tt := range []struct {
		name     string
		addr     string
		min, max uint16
		suite    uint16
		alert    string // the server's; none if it agrees
	}{
		{"TLS 1.3", ofEC, tls.VersionTLS13, tls.VersionTLS13, 0, ""},
		{"TLS 1.2", ofEC, tls.VersionTLS12, tls.VersionTLS12, 0, ""},
		{"TLS 1.1", ofEC, tls.VersionTLS11, tls.VersionTLS11, 0, "protocol version not supported"},
		{"TLS 1.0", ofRSA, tls.VersionTLS10, tls.VersionTLS10, 0, "protocol version not supported"},
		{"ECDSA, AES-128 in GCM", ofEC, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ""},
		{"ECDSA, AES-256 in GCM", ofEC, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, ""},
		{"ECDSA, ChaCha20-Poly1305", ofEC, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, ""},
		{"ECDSA, AES-128 in CBC", ofEC, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "handshake failure"},
		{"RSA, AES-128 in GCM", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, ""},
		{"RSA, AES-256 in GCM", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, ""},
		{"RSA, ChaCha20-Poly1305", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, ""},
		{"RSA, AES-256 in CBC", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "handshake failure"},
		{"RSA, 3DES", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, "handshake failure"},
		{"RSA, RC4", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, "handshake failure"},
		{"RSA key exchange, without forward secrecy", ofRSA, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "handshake failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config := &tls.Config{InsecureSkipVerify: true, MinVersion: tt.min, MaxVersion: tt.max}
			if tt.suite != 0 {
				config.CipherSuites = []uint16{tt.suite}
			}
			c := tls.Client(dial(t, tt.addr), config)
			err := c.Handshake()
			if (err == nil) != (tt.alert == "") || err != nil && !strings.Contains(err.Error(), tt.alert) {
				t.Fatalf("the handshake ends with %v, want %q", err, tt.alert)
			}
			if s := c.ConnectionState(); err == nil && (s.Version != tt.max || tt.suite != 0 && s.CipherSuite != tt.suite) {
				t.Errorf("it is %s, %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
			}
		})
	}
}

func TestALPNChoosesHTTP2(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	addr, _ := startTLS(t, selfSigned(t, key, 1))
	for proto, offered := range map[string][]string{
		"HTTP/2.0": {"h2", "http/1.1"},
		"HTTP/1.1": {"http/1.1"},
	} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(proto == "HTTP/2.0")
		transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: offered}}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.Proto != proto || string(body) != "GET" || err != nil {
			t.Errorf("offered %v: got %q over %s, %v", offered, body, resp.Proto, err)
		}
		transport.CloseIdleConnections()
	}
}

// A tls.Conn waits five seconds to say that it ends.
func TestCloseWaitsForNoClientThatReadsNothing(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := tls.Client(dial(t, l.Addr().String()), &tls.Config{InsecureSkipVerify: true})
	go client.Handshake()
	s := &conns{Listener: l, tls: &tls.Config{Certificates: []tls.Certificate{*selfSigned(t, key, 1)}}}
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.(*conn).Conn.(*tls.Conn).Handshake(); err != nil {
		t.Fatal(err)
	}
	tcp := c.(*conn).tcp
	for _, size := range []int{1 << 20, 1} { // until the buffers are full to the last byte
		for err = nil; err == nil; {
			tcp.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			_, err = tcp.Write(make([]byte, size))
		}
	}
	begun := time.Now()
	c.Close()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestTheNextHandshakeShowsTheNewCertificate(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	addr, file := startTLS(t, selfSigned(t, key, 1), selfSigned(t, key, 2))
	type client struct {
		*tls.Conn
		*bufio.Reader
	}
	var open []client
	for change, index := range []byte{0, 1, 0} {
		choose(t, file, index)
		fresh := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true})
		open = append(open, client{fresh, bufio.NewReader(fresh)})
		for i, c := range open { // the old ones too, which are not cut
			send(t, c.Conn, get)
			if resp := answer(t, c.Reader); resp.StatusCode != 200 || resp.Close {
				t.Errorf("connection %d after change %d: %d, close %v", i, change, resp.StatusCode, resp.Close)
			}
		}
		if got := fresh.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != int64(index)+1 {
			t.Errorf("after change %d the certificate is number %d", change, got)
		}
	}
}

func TestACertificateThatFailsInAHandshakeIsRefusedInTime(t *testing.T) {
	t.Parallel()
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, tt := range map[string]struct {
		curve elliptic.Curve
		rest  []byte // behind the certificate
		good  bool
	}{
		"P-256":                     {elliptic.P256(), nil, true},
		"P-224":                     {elliptic.P224(), nil, false},
		"a chain that ends in junk": {elliptic.P256(), encode("CERTIFICATE", make([]byte, 17_000)), false}, // no buffer holds it
	} {
		key := newKey(t, tt.curve)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		cert := append(encode("CERTIFICATE", selfSigned(t, key, 1).Certificate[0]), tt.rest...)
		if _, err := ParseCertificate([][]byte{cert, encode("PRIVATE KEY", der)}); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
