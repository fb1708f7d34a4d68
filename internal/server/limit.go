package server

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// What net/http allows a client that still sends the body of an answered HTTP/1
// request, and limited one of HTTP/2.
const (
	linger     = 500 * time.Millisecond
	maxDropped = 256 << 10
)

// limited decides which answers are the last of their connection, and lets no
// answer wait for the body of its request: nothing here reads one.
func limited(open *conns, stopping *atomic.Bool, next http.Handler) http.Handler {
	last := []string{"close"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(*conn)
		crowded, roomy := open.begin(c)
		defer open.end(c)
		http1, announced := r.ProtoMajor == 1, r.ContentLength != 0
		// HTTP/1.0 has no Transfer-Encoding, and net/http forgets one that an
		// HTTP/1.0 request carries: RFC 9112, section 6.1, wants it closed.
		if crowded || stopping.Load() || http1 && (announced || r.ProtoMinor == 0) {
			w.Header()["Connection"] = last // net/http makes it a GOAWAY in HTTP/2
		}
		if http1 && announced {
			dropBody(w, roomy)
		}
		next.ServeHTTP(w, r)
		if http1 {
			return
		}
		// A client that opens no window keeps the answer waiting: here, and not
		// after the return, so that it stays charged for.
		http.NewResponseController(w).Flush()
		if announced && roomy {
			// The return resets the stream, and some clients then drop the answer.
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(linger))
			io.CopyN(io.Discard, r.Body, maxDropped)
		}
	})
}

// dropBody makes the server answer an HTTP/1 request without reading what the
// client has yet to send. To close at once would reset the connection, and the
// client might lose the answer; a body over its limit is the case in which
// net/http ends its own side first and lingers (RFC 9112, section 9.6).
func dropBody(w http.ResponseWriter, lingering bool) {
	http.NewResponseController(w).SetReadDeadline(time.Now())
	if lingering {
		tooLong := io.NopCloser(strings.NewReader("x"))
		http.MaxBytesReader(w, tooLong, 0).Read(make([]byte, 1))
	}
}

// logged logs every request that reaches a handler. The query is left out: it
// is nothing to healthd, and people put secrets there.
func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer := &statusRecorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(answer, r)
		log.Info("request", "method", r.Method, "path", r.URL.Path, "proto", r.Proto,
			"status", answer.code, "took", time.Since(start).String(), "remote", r.RemoteAddr)
	})
}

// statusRecorder remembers the status that a handler answers with.
type statusRecorder struct {
	http.ResponseWriter
	code int
}

func (w *statusRecorder) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
