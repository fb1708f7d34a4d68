// Package throttle is the log's handler. What the network causes cannot flood the log, and a
// log that nobody reads blocks nobody.
package throttle

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const maxWarnings, maxQueued, maxLine = 10, 1024, 4096 // a second; lines in memory; bytes of one

// Handler writes text lines from a goroutine of its own: of the records at WARN, the level of
// what strangers can cause, ten a second. Lines left out, by that or by a full queue, are counted,
// and the count follows within a second of the writer's being free. Derived handlers do not throttle.
type Handler struct {
	slog.Handler
	lines    chan []byte
	last     chan func()  // to be called when lines is empty
	warnings atomic.Int64 // in this second, left out or not
	lost     atomic.Int64 // lines left out and not yet told of, but for this second's warnings
}

func New(w io.Writer) *Handler {
	h := &Handler{lines: make(chan []byte, maxQueued), last: make(chan func())}
	h.Handler = slog.NewTextHandler(h, nil)
	go h.write(w)
	return h
}

func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn && h.warnings.Add(1) > maxWarnings {
		return nil // write tells how many there were
	}
	return h.Handler.Handle(ctx, r)
}

// Close writes what is queued, and takes half a second at most.
func (h *Handler) Close() {
	wait, done := context.WithTimeout(context.Background(), 500*time.Millisecond)
	select {
	case h.last <- done:
	case <-wait.Done():
	}
	<-wait.Done()
}

func (h *Handler) write(w io.Writer) {
	var done func()
	var err error // of the last line
	log, second := slog.New(slog.NewTextHandler(w, nil)), time.Tick(time.Second)
	for done == nil || len(h.lines) > 0 {
		select {
		case line := <-h.lines:
			if _, err = w.Write(line); err != nil {
				h.lost.Add(1)
			}
			continue
		case done = <-h.last:
		case <-second:
		}
		if left := h.lost.Add(max(0, h.warnings.Swap(0)-maxWarnings)); left > 0 && err == nil {
			h.lost.Add(-left)
			log.Warn("log lines left out", "count", left)
		}
	}
	done()
}

// Write queues the line that the embedded handler has made, cut if a client made it long.
func (h *Handler) Write(line []byte) (int, error) {
	select {
	case h.lines <- append(append([]byte(nil), line[:min(len(line)-1, maxLine)]...), '\n'):
	default:
		h.lost.Add(1)
	}
	return len(line), nil
}
