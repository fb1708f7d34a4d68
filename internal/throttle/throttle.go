// Package throttle keeps what strangers do from flooding the log.
package throttle

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Limit is how many warnings a second are written; the rest are counted.
const Limit = 10

// Handler passes records on to its slog.Handler, of those at level WARN no more
// than Limit a second. The number of those left out follows within a second.
// Make one with [New]; derived handlers (WithAttrs, WithGroup) do not throttle.
type Handler struct {
	slog.Handler

	mu      sync.Mutex
	start   time.Time // of the second that is being counted
	written int
	left    int
}

// New returns a Handler that writes to h.
func New(h slog.Handler) *Handler { return &Handler{Handler: h} }

// Handle implements [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn && !h.admit() {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h *Handler) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.start) >= time.Second {
		h.start, h.written = now, 0
	}
	if h.written < Limit {
		h.written++
		return true
	}
	if h.left++; h.left == 1 {
		time.AfterFunc(time.Second, h.Flush)
	}
	return false
}

// Flush tells at once how many records were left out, if any were.
func (h *Handler) Flush() {
	h.mu.Lock()
	left := h.left
	h.left = 0
	h.mu.Unlock()
	if left > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "warnings left out", 0)
		r.Add("count", left)
		h.Handler.Handle(context.Background(), r)
	}
}
