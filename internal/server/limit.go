package server

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// limited decides which answers are the last of their connection, and lets no
// request make the server wait for its body: nothing here reads one.
func limited(open *conns, stopping *atomic.Bool, next http.Handler) http.Handler {
	last := []string{"close"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(*conn)
		crowded := open.begin(c)
		defer open.end(c)
		announced := r.ContentLength != 0
		// HTTP/1.0 has no Transfer-Encoding, and net/http forgets one that an
		// HTTP/1.0 request carries: RFC 9112, section 6.1, wants it closed.
		if announced || crowded || stopping.Load() || !r.ProtoAtLeast(1, 1) {
			w.Header()["Connection"] = last // net/http makes it a GOAWAY in HTTP/2
		}
		if announced {
			dropBody(w, !crowded)
		}
		next.ServeHTTP(w, r)
		if r.ProtoMajor == 2 {
			// A client that opens no window keeps the answer waiting: here, and
			// not after the return, so that it stays charged for.
			http.NewResponseController(w).Flush()
		}
	})
}

// dropBody makes the server answer without reading what the client has yet to
// send. To close at once would reset the connection, and the client might lose
// the answer; a body over its limit is the case in which net/http ends its own
// side first and lingers for half a second (RFC 9112, section 9.6).
func dropBody(w http.ResponseWriter, linger bool) {
	http.NewResponseController(w).SetReadDeadline(time.Now())
	if linger {
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
