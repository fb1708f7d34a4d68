// Package server runs one net/http server: it listens, bounds what its clients can hold, and
// leaves without cutting anyone off. It knows no route.
package server

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/healthd/internal/reload"
)

const (
	requestTimeout = 10 * time.Second       // of a request, an answer, and what is in flight at the end
	idleTimeout    = 620 * time.Second      // longer than the 600 s of Google's balancers, which close first
	bodyTimeout    = 500 * time.Millisecond // of a body that a request announces, and nobody reads
	settleTime     = 100 * time.Millisecond // in which what has reached the machine reaches a handler
)

// Server is the configuration of Run.
type Server struct {
	Handler     http.Handler
	Log         *slog.Logger
	Draining    *atomic.Bool                    // set at the first signal, before any wait
	Drain       time.Duration                   // how long to keep serving after SIGTERM
	Verbose     bool                            // log every request
	Certificate *reload.Value[*tls.Certificate] // refreshed in every handshake; nil is plain TCP
}

// Run listens on addr (host:port) and serves until SIGTERM, SIGINT or the end of ctx, which counts
// as SIGINT. It returns nil if it has stopped as asked, and otherwise why it could not listen or
// serve. After that another SIGTERM changes nothing, and SIGINT ends the process at once.
func (s *Server) Run(ctx context.Context, addr string) error {
	signals := make(chan os.Signal, 1) // before the port is open: whoever finds it open may signal
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.Log.Info("listening", "addr", l.Addr().String())
	open := &conns{max: maxConns()}
	srv := s.httpServer(open)
	serve := srv.Serve
	if s.Certificate != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	served := make(chan error, 1)
	go func() { served <- serve(listener{l}) }()

	cause, drain := os.Interrupt, time.Duration(0)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case cause = <-signals:
	}
	go func() {
		for <-signals != os.Interrupt {
		}
		os.Exit(130) // as a shell calls an end by SIGINT
	}()
	if cause == syscall.SIGTERM {
		drain = s.Drain
	}
	s.Draining.Store(true)
	s.Log.Info("draining", "signal", cause.String(), "for", drain.String())
	select {
	case <-ctx.Done():
	case <-time.After(drain):
	}
	l.Close()
	<-served
	time.Sleep(settleTime) // Shutdown alone drops a request whose header it has just read
	if cause == os.Interrupt {
		open.closeSilent() // Shutdown would wait 5 s for them
	}
	timeout, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if srv.Shutdown(timeout) != nil {
		srv.Close()
		s.Log.Warn("requests cut off", "after", requestTimeout.String())
	}
	s.Log.Info("stopped")
	return nil
}

// httpServer sets every limit.
func (s *Server) httpServer(open *conns) *http.Server {
	srv := &http.Server{
		Handler:                      s.Handler,
		Protocols:                    new(http.Protocols),
		TLSConfig:                    tlsConfig(s.Certificate),
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 requestTimeout,
		IdleTimeout:                  -1,      // see conn.SetReadDeadline
		MaxHeaderBytes:               8 << 10, // net/http adds 4 KiB
		DisableGeneralOptionsHandler: true,
		ConnState:                    open.track,
		ErrorLog:                     log.New(complaints{s.Log}, "", 0),
		// What one connection can hold, times their number, stays within the memory limit. Frames and
		// windows are what clients may send before they read SETTINGS (RFC 9113, 4.2 and 6.9.2).
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 16, MaxReadFrameSize: 16 << 10, WriteByteTimeout: requestTimeout,
			MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10,
		},
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	if s.Verbose {
		srv.Handler = logged(s.Log, srv.Handler)
	}
	srv.Handler = retiring(open, s.Draining, srv.Handler)
	return srv
}

// retiring says which answers are the last of their connection. One after a body that was not read
// is: else net/http would wait for the rest. So is one to HTTP/1.0, of which net/http forgets the
// Transfer-Encoding (RFC 9112, section 6.1).
func retiring(open *conns, draining *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.ContentLength != 0
		if body && r.ProtoMajor == 1 || !r.ProtoAtLeast(1, 1) || draining.Load() || open.crowded() {
			w.Header().Set("Connection", "close") // of HTTP/2, net/http makes GOAWAY
		}
		if body {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		if body && r.ProtoMajor == 2 { // net/http would reset the stream, and curl 7.88 drop the answer
			io.CopyN(io.Discard, r.Body, 64<<10)
		}
		next.ServeHTTP(w, r)
	})
}
