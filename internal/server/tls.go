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

// opening checks the first Read over TLS. Where ALPN chose HTTP/2, its preface must come (RFC 9113,
// section 3.4). A failed handshake is logged, but not a client that left or was silent: a TCP check.
func (c *conn) opening(got []byte, err error) (int, error) {
	if err == nil && c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2" && !bytes.HasPrefix([]byte("PRI"), got[:min(len(got), 3)]) {
		return 0, errors.Join(net.ErrClosed, c.Close())
	}
	if noTLS, is := errors.AsType[tls.RecordHeaderError](err); is && noTLS.Conn != nil { // in net/http's words
		io.WriteString(noTLS.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	ended := err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if network, is := errors.AsType[*net.OpError](err); !ended && (!is || network.Op != "read" && network.Op != "write") {
		c.log.Warn("TLS handshake failed", "err", err, "remote", c.RemoteAddr().String())
	}
	return len(got), err
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
