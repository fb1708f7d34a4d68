// Package target watches what is behind /health: programs that accept a connection or answer
// HTTP. It checks in the background, so that however often the verdict is read, a target sees
// one check in each interval.
package target

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The verdicts over all targets.
const (
	Healthy   = "healthy"   // every target is up
	Unhealthy = "unhealthy" // one is down
	Starting  = "starting"  // one has not been checked yet, and none is down
)

const (
	recheck = time.Second           // or the interval, until a failed check is made again
	retry   = 20 * time.Millisecond // until a full backlog is tried again
)

// Watcher checks targets and holds the verdict. Make one with New.
type Watcher struct {
	targets           []*url.URL
	interval, timeout time.Duration
	log               *slog.Logger
	transport         *http.Transport
	unchecked, down   atomic.Int32 // how many targets are
}

// New returns a Watcher of targets: tcp://host:port and unix:///path, which must accept a
// connection, and http and https URLs, which must answer 200 to 399, within timeout each. It
// asks as the kubelet does: no redirect is followed, no certificate verified.
func New(targets []*url.URL, interval, timeout time.Duration, log *slog.Logger) *Watcher {
	w := &Watcher{targets: targets, interval: interval, timeout: timeout, log: log, transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10,
	}}
	w.unchecked.Store(int32(len(targets)))
	return w
}

// Verdict returns Healthy, Unhealthy or Starting. It waits for nothing.
func (w *Watcher) Verdict() string {
	switch {
	case w.down.Load() > 0:
		return Unhealthy
	case w.unchecked.Load() > 0:
		return Starting
	}
	return Healthy
}

// Watch checks every target at once and then each on its own in every interval, until ctx ends.
func (w *Watcher) Watch(ctx context.Context) {
	var all sync.WaitGroup
	for _, target := range w.targets {
		all.Go(func() { w.watch(ctx, target) })
	}
	all.Wait()
}

func (w *Watcher) watch(ctx context.Context, target *url.URL) {
	name := target.Scheme + "://" + target.Host + target.Path // no query: it may hold a secret
	// The first pause is of any length: a fleet that started together must not check in step.
	verdict, pause := Starting, 1+rand.N(w.interval)
	for ; ; pause = w.interval {
		err := w.check(ctx, target)
		if err != nil && verdict == Healthy { // one lost packet takes nothing out
			wait(ctx, min(recheck, w.interval))
			err = w.check(ctx, target)
		}
		if ctx.Err() != nil {
			return // broken off, not down
		}
		was := verdict
		if verdict = Healthy; err != nil {
			verdict = Unhealthy
		}
		if was != verdict {
			w.note(was, name, err)
		}
		wait(ctx, pause)
	}
}

// note counts and logs a change from a verdict: why the target is down, or nil.
func (w *Watcher) note(was, target string, reason error) {
	if reason != nil {
		w.down.Add(1)
		defer w.log.Error("target is down", "target", target, "reason", reason)
	} else {
		defer w.log.Info("target is up", "target", target)
	}
	switch was {
	case Starting:
		w.unchecked.Add(-1)
	case Unhealthy:
		w.down.Add(-1)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// check returns why target is down, or nil.
func (w *Watcher) check(ctx context.Context, target *url.URL) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var resolving atomic.Pointer[string]
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // of every dialer
		DNSStart:     func(info httptrace.DNSStartInfo) { resolving.Store(&info.Host) },
		ConnectStart: func(string, string) { resolving.Store(nil) },
	})
	switch target.Scheme {
	case "tcp":
		err = dial(traced, "tcp", target.Host)
	case "unix":
		err = dial(traced, "unix", target.Path)
	default:
		err = w.get(traced, target)
	}
	if err == nil || ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if name := resolving.Load(); name != nil {
		return fmt.Errorf("the name %s could not be resolved within %v", *name, w.timeout)
	}
	return fmt.Errorf("no answer within %v", w.timeout)
}

// dial tries again while a Unix socket's backlog is full: Linux lets no connection wait there,
// as it does for a TCP port.
func dial(ctx context.Context, network, address string) error {
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, syscall.EAGAIN) || ctx.Err() != nil {
			return err
		}
		wait(ctx, retry)
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
