package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

// handshakeFailed logs why, unless the client has left or was silent, as a TCP check is: no news.
func (c *conn) handshakeFailed(err error) {
	network, noTLS := new(net.OpError), tls.RecordHeaderError{}
	if errors.As(err, &noTLS) && noTLS.Conn != nil { // in net/http's words
		io.WriteString(noTLS.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	if alert := !errors.As(err, &network) || network.Op == "remote error" || network.Op == "local error"; alert && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.log.Warn("TLS handshake failed", "err", err, "remote", c.RemoteAddr().String())
	}
}

// ParseCertificate takes a PEM chain and its PEM key, which are good if a handshake succeeds.
func ParseCertificate(files [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil && bytes.Contains(files[1], []byte("ENCRYPTED")) { // PKCS #8's label, or RFC 1421's header
		return nil, errors.New("the key is encrypted; decrypt it: openssl pkey -in FILE -out NEWFILE")
	} else if err != nil {
		return nil, fmt.Errorf("%w (PEM is wanted: the key's own certificate, then its chain; the key)", err)
	}
	here, there := net.Pipe()
	defer here.Close()                                // which ends the client, too
	here.SetDeadline(time.Now().Add(2 * time.Second)) // a pipe has no buffer: a long chain and an alert would wait for each other
	go tls.Client(there, &tls.Config{InsecureSkipVerify: true}).Handshake()
	if err := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake(); err != nil {
		return nil, fmt.Errorf("a handshake with it fails: %w", err)
	}
	return &pair, nil
}
