// Package throttle is the log's handler. What the network causes cannot flood
// the log, and a log that nobody reads blocks nobody.
package throttle

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	maxWarnings = 10                     // a second; the rest are counted
	maxQueued   = 1024                   // lines not yet written; the rest are counted
	flushWait   = 500 * time.Millisecond // the most that Close takes
)

// Handler writes text lines to a writer from a goroutine of its own. Of the
// records at WARN, the level of what anyone on the network can cause, it writes
// ten a second. How many lines were left out is told within a second or so. Make
// one with [New]; derived handlers (WithAttrs, WithGroup) do not throttle.
type Handler struct {
	slog.Handler
	lines chan []byte   // nil is the last
	ended chan struct{} // closed once it has been reached

	mu       sync.Mutex
	second   time.Time // when the one that is being counted began
	warnings int       // in it
	left     int       // lines left out and not yet told of
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
	if r.Level == slog.LevelWarn && !h.admit() {
		h.leaveOut()
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// Close writes what is queued, for half a second at most.
func (h *Handler) Close() {
	h.tell()
	timeout := time.After(flushWait)
	select {
	case h.lines <- nil:
	case <-timeout:
		return
	}
	select {
	case <-h.ended:
	case <-timeout:
	}
}

func (h *Handler) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.second) >= time.Second {
		h.second, h.warnings = now, 0
	}
	h.warnings++
	return h.warnings <= maxWarnings
}

func (h *Handler) leaveOut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left++; h.left == 1 {
		time.AfterFunc(time.Second, h.tell)
	}
}

// tell logs how many lines were left out, once there is room for one more.
func (h *Handler) tell() {
	h.mu.Lock()
	left := h.left
	if left > 0 && len(h.lines) == cap(h.lines) {
		time.AfterFunc(time.Second, h.tell)
		left = 0
	} else {
		h.left = 0
	}
	h.mu.Unlock()
	if left > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines left out", 0)
		r.Add("count", left)
		h.Handler.Handle(context.Background(), r)
	}
}

// queue is where the text handler writes its lines to.
type queue struct{ *Handler }

func (q queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.leaveOut()
	}
	return len(line), nil
}
