// Package probe is the client half: one request, one verdict. It is what an
// image without curl runs as its HEALTHCHECK or exec probe.
package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
)

// maxRead bounds what is read of a header, and of a body, in bytes.
const maxRead = 10 << 10

// Probe is one question to an HTTP server.
type Probe struct {
	// URL is what to GET, http or https.
	URL string
	// Addr, if set, is the host:port to connect to instead of the URL's. An
	// empty or unspecified host is this machine (see [net.Dial]).
	Addr string
	// Timeout bounds the whole exchange.
	Timeout time.Duration
	// Header is sent with the request: the credentials, if there are any.
	Header http.Header
	// Pin, if set, is the certificate (DER) that the server must show, whoever
	// signed it. Otherwise the system's roots decide. Nothing is sent before.
	Pin []byte
}

// Do asks once and never follows a redirect. It reports whether the status was
// a 2xx, and one printable line: the body, however much of it came, or else the
// status, or why there is no answer.
func (p Probe) Do(ctx context.Context) (ok bool, line string) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return false, printable(err.Error())
	}
	if p.Header != nil {
		req.Header = p.Header
	}
	// No proxy, no compression, no second request on the connection: what is
	// asked is the server itself, once.
	transport := &http.Transport{
		DialContext:            p.dial,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxRead,
	}
	if p.Pin != nil {
		transport.TLSClientConfig = &tls.Config{
			InsecureSkipVerify: true, // by name and signer; the pin is stricter
			VerifyConnection:   p.verify,
		}
	}
	resp, err := transport.RoundTrip(req)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return false, fmt.Sprintf("no answer within %v", p.Timeout)
	} else if err != nil {
		return false, printable(err.Error())
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRead)) // the status decides
	line = printable(string(body))
	if line == "" {
		line = printable(resp.Status)
	}
	return resp.StatusCode/100 == 2, line
}

func (p Probe) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if p.Addr != "" {
		addr = p.Addr
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (p Probe) verify(state tls.ConnectionState) error {
	if !bytes.Equal(state.PeerCertificates[0].Raw, p.Pin) {
		return errors.New("the server shows another certificate than the configured one")
	}
	return nil
}

// printable makes one line of s that no terminal or log takes for a command.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	return strings.TrimSpace(s)
}
