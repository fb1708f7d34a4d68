package server

import (
	"log"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

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

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	code int
}

func (w *statusRecorder) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// errorLog returns a logger for what net/http complains of: each is a warning.
func errorLog(to *slog.Logger) *log.Logger { return log.New(complaints{to}, "", 0) }

type complaints struct{ log *slog.Logger }

func (c complaints) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	// A connection that sent nothing is no news: most are TCP checks.
	if !strings.HasPrefix(text, "http: TLS handshake error") || !strings.HasSuffix(text, ": EOF") {
		c.log.Warn(text)
	}
	return len(line), nil
}
