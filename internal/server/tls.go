package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"example.com/healthd/internal/reload"
)

func tlsConfig(certificate *reload.Value[*tls.Certificate]) *tls.Config {
	return &tls.Config{
		NextProtos: []string{"h2", "http/1.1", "http/1.0"}, // the last is all that curl --http1.0 offers
		CipherSuites: []uint16{ // Go's defaults without CBC, of which scanners warn (testssl: LUCKY13)
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate.Refresh()
			return certificate.Get(), nil
		},
	}
}

// ParseCertificate takes a PEM chain and its PEM key, which are good if a handshake succeeds.
func ParseCertificate(files [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil && bytes.Contains(files[1], []byte("ENCRYPTED")) { // PKCS #8's label, or RFC 1421's header
		return nil, errors.New("the key is encrypted; decrypt it: openssl pkey -in FILE -out NEWFILE")
	} else if err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	defer here.Close()                                // which ends the client, too
	here.SetDeadline(time.Now().Add(2 * time.Second)) // a long chain and the client's alert would wait for each other
	go tls.Client(there, &tls.Config{InsecureSkipVerify: true}).Handshake()
	if err := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake(); err != nil {
		return nil, fmt.Errorf("a handshake with it fails: %w", err)
	}
	return &pair, nil
}
