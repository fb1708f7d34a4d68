// Package probe is the client half: one request, one verdict. It is what an image without
// curl runs as its HEALTHCHECK or exec probe.
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

const maxRead = 10 << 10 // bytes of a header, and of a body

// Probe is one request to an HTTP server.
type Probe struct {
	URL     string        // what to GET, http or https
	Addr    string        // host:port to connect to instead of the URL's; no host is this machine
	Timeout time.Duration // of the whole exchange
	Header  http.Header   // sent with the request: the credentials
	// Pin, if set, is the certificate (DER) that the server must show, whoever signed it.
	// Otherwise the system's roots decide. Nothing is sent before.
	Pin string
}

// Do asks once and never follows a redirect. It reports whether the status was a 2xx, and one
// printable line: the body, however much of it came, or else the status, or why there is no
// answer.
func (p Probe) Do(ctx context.Context) (ok bool, line string) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	var resolving atomic.Pointer[string]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(info httptrace.DNSStartInfo) { resolving.Store(&info.Host) },
		ConnectStart: func(string, string) { resolving.Store(nil) },
	})
	// No proxy, no compression, no second request on the connection: what is asked is the
	// server itself, once.
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if p.Addr != "" {
				addr = p.Addr
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxRead,
	}
	if p.Pin != "" {
		transport.TLSClientConfig = &tls.Config{
			InsecureSkipVerify: true, // by name and signer; the pin is stricter
			VerifyConnection: func(state tls.ConnectionState) error {
				if string(state.PeerCertificates[0].Raw) != p.Pin {
					return errors.New("the server shows another certificate than the configured one")
				}
				return nil
			},
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return false, printable(err.Error())
	}
	if p.Header != nil {
		req.Header = p.Header
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		name, late := resolving.Load(), ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case late && name != nil:
			err = fmt.Errorf("the name %s could not be resolved within %v", *name, p.Timeout)
		case late:
			err = fmt.Errorf("no answer within %v", p.Timeout)
		}
		return false, printable(err.Error())
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRead)) // the status decides, not the error
	if line = printable(string(body)); line == "" {
		line = printable(resp.Status)
	}
	return resp.StatusCode/100 == 2, line
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
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s))
}
