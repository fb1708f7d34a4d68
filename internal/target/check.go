package target

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// retry is the pause before a full backlog is tried again.
const retry = 20 * time.Millisecond

// newTransport asks as the kubelet does: the certificate is not verified, no
// redirect is followed (a transport never does), every check is a connection.
func newTransport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
}

// check returns why target is down, or nil.
func (w *Watcher) check(ctx context.Context, target *url.URL) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var resolving atomic.Pointer[string]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // of every dialer
		DNSStart:     func(info httptrace.DNSStartInfo) { resolving.Store(&info.Host) },
		ConnectStart: func(string, string) { resolving.Store(nil) },
	})
	switch target.Scheme {
	case "tcp":
		err = dial(ctx, "tcp", target.Host)
	case "unix":
		err = dial(ctx, "unix", target.Path)
	default:
		err = w.get(ctx, target)
	}
	if err == nil || ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if name := resolving.Load(); name != nil {
		return fmt.Errorf("the name %s could not be resolved within %v", *name, w.timeout)
	}
	return fmt.Errorf("no answer within %v", w.timeout)
}

func dial(ctx context.Context, network, address string) error {
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return c.Close()
		}
		// Linux does not let a connection wait for a place in the full backlog of a
		// Unix socket, as it does in that of a TCP port.
		if !errors.Is(err, syscall.EAGAIN) {
			return err
		}
		if !wait(ctx, retry) {
			return ctx.Err()
		}
	}
}

// get judges by the status, as the kubelet does, and reads no body.
func (w *Watcher) get(ctx context.Context, target *url.URL) error {
	req := &http.Request{Method: http.MethodGet, URL: target, Header: http.Header{"User-Agent": {"healthd"}}}
	resp, err := w.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	return nil
}
