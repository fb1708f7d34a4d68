// Package throttle is the log's handler. What the network causes cannot flood the log, and a
// log that nobody reads blocks nobody.
package throttle

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	maxWarnings = 10   // a second
	maxQueued   = 1024 // lines
	flushWait   = 500 * time.Millisecond
)

// Handler writes text lines from a goroutine of its own. Of the records at WARN, the level of
// what anyone on the network can cause, it writes ten a second. Lines left out, by that or by
// a full queue, are counted, and the count follows a second later or once there is room.
// Derived handlers (WithAttrs, WithGroup) do not throttle.
type Handler struct {
	slog.Handler
	lines chan []byte   // nil is the last
	ended chan struct{} // closed once that is reached

	mu       sync.Mutex
	counting bool // a second is, and tell will be called at its end
	warnings int  // in that second
	left     int  // lines left out and not yet told of
}

// New returns a Handler that writes to w until Close.
func New(w io.Writer) *Handler {
	h := &Handler{lines: make(chan []byte, maxQueued), ended: make(chan struct{})}
	h.Handler = slog.NewTextHandler(queue{h}, nil)
	go func() {
		defer close(h.ended)
		for line := <-h.lines; line != nil; line = <-h.lines {
			w.Write(line)
		}
	}()
	return h
}

// Handle implements [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn && h.count(1, 0) > maxWarnings {
		h.count(0, 1)
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// Close writes what is queued, and takes half a second at most.
func (h *Handler) Close() {
	h.tell()
	timeout := time.After(flushWait)
	select {
	case h.lines <- nil:
		select {
		case <-h.ended:
		case <-timeout:
		}
	case <-timeout:
	}
}

func (h *Handler) count(warnings, left int) (warned int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warnings += warnings
	h.left += left
	if !h.counting {
		h.counting = true
		time.AfterFunc(time.Second, h.tell)
	}
	return h.warnings
}

// tell logs how many lines were left out, if there is room for one more.
func (h *Handler) tell() {
	h.mu.Lock()
	left := h.left
	h.counting, h.warnings, h.left = false, 0, 0
	h.mu.Unlock()
	if left > 0 && len(h.lines) == cap(h.lines) {
		h.count(0, left)
	} else if left > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines left out", 0)
		r.Add("count", left)
		h.Handler.Handle(context.Background(), r)
	}
}

// queue is what the text handler writes its lines to.
type queue struct{ *Handler }

func (q queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.count(0, 1)
	}
	return len(line), nil
}
