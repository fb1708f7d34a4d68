// Package target watches what stands behind /health: programs that accept a
// connection or answer HTTP. It checks in the background, so that however often
// the verdict is asked for, a target sees one check in each interval.
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
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The verdicts over all targets.
const (
	Healthy   = "healthy"   // the last check of every target was good
	Unhealthy = "unhealthy" // the last check of one was not
	Starting  = "starting"  // one has not been checked yet, and none is down
)

// Watcher checks targets and holds the verdict.
type Watcher struct {
	targets           []*url.URL
	interval, timeout time.Duration
	log               *slog.Logger
	transport         *http.Transport

	verdict atomic.Pointer[string]
	mu      sync.Mutex
	last    []string // each target's own verdict
}

// New returns a Watcher of targets: tcp://host:port and unix:///path, which must
// accept a connection, and http and https URLs, which must answer 200 to 399.
// Each check takes timeout at the most.
func New(targets []*url.URL, interval, timeout time.Duration, log *slog.Logger) *Watcher {
	w := &Watcher{
		targets:  targets,
		interval: interval,
		timeout:  timeout,
		log:      log,
		// As the kubelet asks: the certificate is not verified, no redirect is
		// followed (a transport never does), every check is a connection.
		transport: &http.Transport{
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		last: slices.Repeat([]string{Starting}, len(targets)),
	}
	w.conclude()
	return w
}

// Verdict returns Healthy, Unhealthy or Starting. It takes no lock and makes no
// allocation.
func (w *Watcher) Verdict() string { return *w.verdict.Load() }

// Watch checks every target at once and then each on its own in every interval,
// until ctx ends.
func (w *Watcher) Watch(ctx context.Context) {
	var all sync.WaitGroup
	for i := range w.targets {
		all.Go(func() { w.watch(ctx, i) })
	}
	all.Wait()
}

func (w *Watcher) watch(ctx context.Context, i int) {
	// The first pause is of any length: a fleet that started together must not
	// beat on a target together.
	tick := time.NewTicker(1 + rand.N(w.interval))
	defer tick.Stop()
	for {
		w.note(ctx, i, w.check(ctx, w.targets[i]))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Reset(w.interval)
		}
	}
}

// check returns why target is down, or nil.
func (w *Watcher) check(ctx context.Context, target *url.URL) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	switch target.Scheme {
	case "tcp":
		err = dial(ctx, "tcp", target.Host)
	case "unix":
		err = dial(ctx, "unix", target.Path)
	default:
		err = w.get(ctx, target)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", w.timeout)
	}
	return err
}

func dial(ctx context.Context, network, address string) error {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return c.Close()
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

// note takes the outcome of a check and logs it if it is a change.
func (w *Watcher) note(ctx context.Context, i int, err error) {
	if ctx.Err() != nil {
		return // broken off, not down
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	verdict := Healthy
	if err != nil {
		verdict = Unhealthy
	}
	if w.last[i] == verdict {
		return
	}
	w.last[i] = verdict
	w.conclude()
	// Without the query, which may hold what is not for a log.
	target := w.targets[i].Scheme + "://" + w.targets[i].Host + w.targets[i].Path
	if err != nil {
		w.log.Warn("target is down", "target", target, "reason", err)
	} else {
		w.log.Info("target is up", "target", target)
	}
}

// conclude sets the verdict over all targets.
func (w *Watcher) conclude() {
	verdict := Healthy
	for _, worse := range []string{Starting, Unhealthy} {
		if slices.Contains(w.last, worse) {
			verdict = worse
		}
	}
	w.verdict.Store(&verdict)
}
