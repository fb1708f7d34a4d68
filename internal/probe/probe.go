// Package probe is the client half, for images without curl: one request, one exit code.
package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
)

type Probe struct {
	URL     string        // what to GET, http or https
	Addr    string        // host:port to connect to instead of the URL's; no host is this machine
	Timeout time.Duration // of the whole exchange
	Header  http.Header   // sent with the request: the credentials
	Pin     string        // the certificate (DER) that the server must show; if none, system roots decide
}

// Do asks the server itself, once: no proxy, no redirect. The code is 0 for a 2xx, or else 1. The
// line is printable: the body, however much of it came, or the status, or why there is no answer.
func (p Probe) Do(ctx context.Context) (code int, line string) {
	deadline := time.Now().Add(p.Timeout)
	transport := &http.Transport{
		// With the deadline in ctx, RoundTrip would end before the dialer told which name was late.
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, network, cmp.Or(p.Addr, addr))
			if err == nil {
				err = conn.SetDeadline(deadline)
			}
			return conn, err
		},
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: p.Pin != "", // by name and signer; the pin is stricter
			VerifyConnection: func(state tls.ConnectionState) error {
				if p.Pin != "" && string(state.PeerCertificates[0].Raw) != p.Pin {
					return errors.New("the server shows another certificate than the configured one")
				}
				return nil
			},
		},
		DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 10 << 10,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return 1, printable(err.Error())
	}
	maps.Copy(req.Header, p.Header)
	resp, err := transport.RoundTrip(req)
	if late := new(net.DNSError); errors.As(err, &late) && late.IsTimeout {
		err = fmt.Errorf("the name %s could not be resolved within %v", late.Name, p.Timeout)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", p.Timeout)
	}
	if err != nil {
		return 1, printable(err.Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		code = 1
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 10<<10)) // the status decides, not the error
	return code, cmp.Or(printable(string(body)), printable(resp.Status))
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
	hidden := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	return strings.TrimSpace(strings.Join(strings.FieldsFunc(s, hidden), " "))
}
