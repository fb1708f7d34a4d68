//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is clients that each ask again and again at a steady pace.
type load struct {
	asked, failed atomic.Int64
	first         atomic.Pointer[string] // the first failure
	clients       sync.WaitGroup
	cancel        context.CancelFunc
	ctx           context.Context
}

// newLoad returns a load without clients. It ends with the test at the latest.
func newLoad(t *testing.T) *load {
	l := new(load)
	l.ctx, l.cancel = context.WithCancel(t.Context())
	t.Cleanup(l.end)
	return l
}

// add starts a client. ask asks once and says what is wrong with the answer.
func (l *load) add(c client, pace time.Duration, ask func(*client) error) {
	l.clients.Go(func() {
		defer c.close()
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-l.ctx.Done():
				return
			case <-tick.C:
			}
			if err := ask(&c); err != nil {
				l.failed.Add(1)
				text := err.Error()
				l.first.CompareAndSwap(nil, &text)
			}
			l.asked.Add(1)
		}
	})
}

// more waits until n more requests have been answered.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	before := l.asked.Load()
	eventually(t, fmt.Sprintf("%d more requests are answered", n), func() bool { return l.asked.Load() >= before+n })
}

func (l *load) end() {
	l.cancel()
	l.clients.Wait()
}

// report ends the load, of which no request may have failed.
func (l *load) report(t *testing.T, what string) {
	t.Helper()
	l.end()
	t.Logf("%s: %d requests, %d failed", what, l.asked.Load(), l.failed.Load())
	if first := l.first.Load(); first != nil {
		t.Errorf("%s: %d of %d requests failed, the first: %s", what, l.failed.Load(), l.asked.Load(), *first)
	}
	if l.asked.Load() == 0 {
		t.Errorf("%s: no load", what)
	}
}
