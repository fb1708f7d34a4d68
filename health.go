package main

import (
	"io"
	"net/http"
	"sync/atomic"
)

// health answers /health with a status: "draining" once that is set, and until then what
// verdict returns. It opens no socket and reads no setting.
type health struct {
	verdict  func() string // "healthy", "unhealthy" or "starting"; called for every request
	draining atomic.Bool
}

// ServeHTTP answers GET and HEAD, which the router has checked: 200 if healthy, else 503.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := h.verdict()
	if h.draining.Load() {
		status = "draining"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status != "healthy" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	io.WriteString(w, `{"status":"`+status+`"}`) // of which net/http answers HEAD with the length alone
}
