// Package target watches what is behind /health, in the background: however often the verdict
// is read, a target sees one check in each interval.
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
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Verdicts: every target is up; one is down; one has not been checked yet, and none is down.
const Healthy, Unhealthy, Starting = "healthy", "unhealthy", "starting"

// Watcher checks targets and holds the verdict. Make one with New.
type Watcher struct {
	targets           []*url.URL
	verdicts          []atomic.Value // over each: Healthy, Unhealthy, or nil before its first check
	interval, timeout time.Duration
	log               *slog.Logger
	transport         *http.Transport
}

// New returns a Watcher of targets, with schemes tcp, unix, http and https. It asks as the kubelet
// does: no redirect is followed, no certificate verified.
func New(targets []*url.URL, interval, timeout time.Duration, log *slog.Logger) *Watcher {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10}
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return &Watcher{targets, make([]atomic.Value, len(targets)), interval, timeout, log, transport}
}

func (w *Watcher) Verdict() string {
	all := Healthy
	for i := range w.verdicts {
		switch w.verdicts[i].Load() {
		case Unhealthy:
			return Unhealthy
		case nil:
			all = Starting
		}
	}
	return all
}

// Watch checks every target at once and then each on its own in every interval, until ctx ends.
func (w *Watcher) Watch(ctx context.Context) {
	var all sync.WaitGroup
	for i, target := range w.targets {
		all.Go(func() { w.watch(ctx, target, &w.verdicts[i]) })
	}
	all.Wait()
}

func (w *Watcher) watch(ctx context.Context, target *url.URL, verdict *atomic.Value) {
	log := w.log.With("target", target.Scheme+"://"+target.Host+target.Path) // a query may hold a secret
	// The first pause is of any length: a fleet that started together must not check in step.
	for pause := 1 + rand.N(w.interval); ; pause = w.interval {
		err := w.check(ctx, target)
		if err != nil && verdict.Load() == Healthy { // one lost packet takes nothing out
			wait(ctx, min(time.Second, w.interval))
			err = w.check(ctx, target)
		}
		if ctx.Err() != nil {
			return // broken off, not down
		}
		if err == nil && verdict.Swap(Healthy) != Healthy {
			log.Info("target is up")
		} else if err != nil && verdict.Swap(Unhealthy) != Unhealthy {
			log.Error("target is down", "reason", err)
		}
		wait(ctx, pause)
	}
}

func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

func (w *Watcher) check(ctx context.Context, target *url.URL) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var late atomic.Value
	late.Store("no answer")
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // of every dialer
		DNSStart:     func(dns httptrace.DNSStartInfo) { late.Store("the name " + dns.Host + " could not be resolved") },
		ConnectStart: func(string, string) { late.Store("no answer") },
	})
	err := w.ask(ctx, target)
	// Linux lets no connection wait at a Unix socket's full backlog, as it does at a TCP port's.
	for ; errors.Is(err, syscall.EAGAIN) && ctx.Err() == nil; err = w.ask(ctx, target) {
		wait(ctx, 20*time.Millisecond)
	}
	if err != nil && time.Since(begun) >= w.timeout {
		return fmt.Errorf("%s within %v", late.Load(), w.timeout)
	}
	return err
}

// ask judges an answer by its status, as the kubelet does, and reads no body.
func (w *Watcher) ask(ctx context.Context, target *url.URL) error {
	if target.Scheme == "tcp" || target.Scheme == "unix" {
		c, err := new(net.Dialer).DialContext(ctx, target.Scheme, target.Host+target.Path)
		if err == nil {
			c.Close()
		}
		return err
	}
	req := &http.Request{URL: target, Header: http.Header{"User-Agent": {"healthd"}}}
	resp, err := w.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	if resp.Body.Close(); resp.StatusCode < 200 || resp.StatusCode > 399 {
		err = fmt.Errorf("answered %d", resp.StatusCode)
	}
	return err
}
