// Package target watches what is behind /health: programs that accept a
// connection or answer HTTP. It checks in the background, so that however often
// the verdict is read, a target sees one check in each interval.
package target

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The verdicts over all targets.
const (
	Healthy   = "healthy"   // every target is up
	Unhealthy = "unhealthy" // one is down
	Starting  = "starting"  // one has not been checked yet, and none is down
)

// recheck is how soon a failed check of a target that was up is repeated, if the
// interval is not shorter.
const recheck = time.Second

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
		targets:   targets,
		interval:  interval,
		timeout:   timeout,
		log:       log,
		transport: newTransport(),
		last:      slices.Repeat([]string{Starting}, len(targets)),
	}
	w.conclude()
	return w
}

// Verdict returns Healthy, Unhealthy or Starting. It takes no lock.
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
	verdict := Starting
	// The first pause is of any length: a fleet that started together must not
	// check a target in step.
	for pause := 1 + rand.N(w.interval); ; pause = w.interval {
		err := w.check(ctx, w.targets[i])
		if err != nil && verdict == Healthy { // one lost packet takes nothing out
			if !wait(ctx, min(recheck, w.interval)) {
				return
			}
			err = w.check(ctx, w.targets[i])
		}
		if ctx.Err() != nil {
			return // broken off, not down
		}
		was := verdict
		if verdict = Healthy; err != nil {
			verdict = Unhealthy
		}
		if verdict != was {
			w.note(i, verdict, err)
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

// wait reports whether d has passed and ctx has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// note takes a change of a target's verdict and logs it.
func (w *Watcher) note(i int, verdict string, reason error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[i] = verdict
	w.conclude()
	// Without the query, which may hold what is not for a log.
	target := w.targets[i].Scheme + "://" + w.targets[i].Host + w.targets[i].Path
	if reason != nil {
		w.log.Error("target is down", "target", target, "reason", reason)
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
