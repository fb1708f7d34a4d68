package main

import (
	"net/http"
	"strconv"
	"sync/atomic"
)

// health answers /health with the status it was last given. It opens no
// socket and reads no setting: whoever learns that the status has changed
// says so here.
type health struct {
	draining atomic.Bool

	ready, leaving answer
}

func newHealth() *health {
	return &health{
		ready:   newAnswer(http.StatusOK, "healthy"),
		leaving: newAnswer(http.StatusServiceUnavailable, "draining"),
	}
}

// drain makes every later answer 503 {"status":"draining"}. It may be called
// at any time and from any goroutine.
func (h *health) drain() { h.draining.Store(true) }

// ServeHTTP answers GET and HEAD; the method and the path are the router's to check.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.draining.Load() {
		h.leaving.write(w, r)
		return
	}
	h.ready.write(w, r)
}

// answer is a whole response made once, so that a probe costs no allocation:
// the header values are shared between requests and only ever read.
type answer struct {
	code                               int
	body                               []byte
	contentType, cacheControl, bodyLen []string
}

func newAnswer(code int, status string) answer {
	body := []byte(`{"status":"` + status + `"}`)
	return answer{
		code:         code,
		body:         body,
		contentType:  []string{"application/json"},
		cacheControl: []string{"no-store"},
		bodyLen:      []string{strconv.Itoa(len(body))},
	}
}

func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Content-Type"] = a.contentType
	header["Cache-Control"] = a.cacheControl
	header["Content-Length"] = a.bodyLen
	w.WriteHeader(a.code)
	if r.Method != http.MethodHead {
		w.Write(a.body)
	}
}
