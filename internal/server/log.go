package server

import (
	"log/slog"
	"net/http"
	"time"
)

// logged logs every request that reaches a handler, without its query: people put secrets there.
func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, status := time.Now(), &statusRecorder{w, http.StatusOK}
		next.ServeHTTP(status, r)
		log.Info("request", "method", r.Method, "path", r.URL.Path, "proto", r.Proto,
			"status", status.code, "took", time.Since(start).String(), "remote", r.RemoteAddr)
	})
}

type statusRecorder struct {
	http.ResponseWriter
	code int
}

func (w *statusRecorder) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
