// Package probe is the client half: one request, one verdict. It is what an
// image without curl runs as its HEALTHCHECK or exec probe.
package probe

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// maxRead bounds what is read of a header, and of a body, in bytes.
const maxRead = 10 << 10

// Probe is one request to an HTTP server.
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
	Pin string
}

// Do asks once and never follows a redirect. It reports whether the status was
// a 2xx, and one printable line: the body, however much of it came, or else the
// status, or why there is no answer.
func (p Probe) Do(ctx context.Context) (ok bool, line string) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	var resolving atomic.Pointer[string]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(info httptrace.DNSStartInfo) { resolving.Store(&info.Host) },
		ConnectStart: func(string, string) { resolving.Store(nil) },
	})
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
	if p.Pin != "" {
		transport.TLSClientConfig = &tls.Config{
			InsecureSkipVerify: true, // by name and signer; the pin is stricter
			VerifyConnection:   p.verify,
		}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		name := resolving.Load()
		switch timedOut := ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded); {
		case timedOut && name != nil:
			line = fmt.Sprintf("the name %s could not be resolved within %v", *name, p.Timeout)
		case timedOut:
			line = fmt.Sprintf("no answer within %v", p.Timeout)
		default:
			line = err.Error()
		}
		return false, printable(line)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRead)) // the status decides
	if line = printable(string(body)); line == "" {
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
	if string(state.PeerCertificates[0].Raw) != p.Pin {
		return errors.New("the server shows another certificate than the configured one")
	}
	return nil
}

// Leaf returns the first certificate (DER) of a PEM file.
func Leaf(files [][]byte) (string, error) {
	for block, rest := pem.Decode(files[0]); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return string(block.Bytes), nil
		}
	}
	return "", errors.New("no certificate in PEM form")
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
