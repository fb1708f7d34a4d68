package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"

	"example.com/healthd/internal/reload"
)

// tlsConfig allows TLS 1.2 and 1.3, whose suites are not configurable.
func tlsConfig(certificate *reload.Value[*tls.Certificate]) *tls.Config {
	return &tls.Config{
		NextProtos: []string{"h2", "http/1.1", "http/1.0"}, // the last is all that curl --http1.0 offers
		// Go's defaults without CBC, of which scanners warn (testssl: LUCKY13).
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate.Refresh()
			return certificate.Get(), nil
		},
	}
}

// ParseCertificate takes two PEM files, a certificate with its chain and its
// key. The pair is good if a handshake with it succeeds.
func ParseCertificate(files [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(files[0], files[1])
	for block, rest := pem.Decode(files[1]); block != nil; block, rest = pem.Decode(rest) {
		//lint:ignore SA1019 it is only asked whether the key is encrypted
		if block.Type == "ENCRYPTED PRIVATE KEY" || x509.IsEncryptedPEMBlock(block) {
			return nil, errors.New("the key is encrypted; decrypt it (openssl pkey -in FILE -out NEWFILE)")
		}
	}
	if err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	client := make(chan error, 1)
	go func() {
		defer there.Close()
		client <- tls.Client(there, &tls.Config{InsecureSkipVerify: true}).Handshake()
	}()
	err = tls.Server(here, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
	here.Close()
	if theirs := <-client; err == nil {
		err = theirs
	}
	if err != nil {
		return nil, fmt.Errorf("a handshake with it fails: %w", err)
	}
	return &pair, nil
}
