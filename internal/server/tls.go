package server

import (
	"crypto/tls"

	"example.com/healthd/internal/reload"
)

// tlsConfig allows TLS 1.2 with the forward-secret AEAD suites, which are all
// that HTTP/2 permits (RFC 9113, appendix A), and TLS 1.3, which has no other.
func tlsConfig(certificate *reload.Value[tls.Certificate]) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate.Look()
			current := certificate.Get()
			return &current, nil
		},
	}
}
