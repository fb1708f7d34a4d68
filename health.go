package main

import (
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"
)

// health answers /health with a status: "draining" once it is told to leave,
// and until then whatever verdict returns. It opens no socket and reads no
// setting.
type health struct {
	verdict  func() string
	draining atomic.Bool
	answers  map[string]answer // by status
}

// newHealth returns a handler whose status is verdict's: "healthy", which is
// answered with 200, or "unhealthy" or "starting", with 503. verdict is called
// for every request.
func newHealth(verdict func() string) *health {
	h := &health{verdict: verdict, answers: make(map[string]answer)}
	for _, status := range []string{"healthy", "unhealthy", "starting", "draining"} {
		code := http.StatusServiceUnavailable
		if status == "healthy" {
			code = http.StatusOK
		}
		body := []byte(`{"status":"` + status + `"}`)
		h.answers[status] = answer{code, body, http.Header{
			"Content-Type":   {"application/json"},
			"Cache-Control":  {"no-store"},
			"Content-Length": {strconv.Itoa(len(body))},
		}}
	}
	return h
}

// drain makes every later answer 503 {"status":"draining"}. It may be called
// at any time and from any goroutine.
func (h *health) drain() { h.draining.Store(true) }

// ServeHTTP answers GET and HEAD; the method and the path are the router's to check.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := "draining"
	if !h.draining.Load() {
		status = h.verdict()
	}
	answer := h.answers[status]
	maps.Copy(w.Header(), answer.header)
	w.WriteHeader(answer.code)
	if r.Method != http.MethodHead {
		w.Write(answer.body)
	}
}

// answer is a whole response made once, so that a probe costs no allocation:
// the header values are shared between requests and only ever read.
type answer struct {
	code   int
	body   []byte
	header http.Header
}
