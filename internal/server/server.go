// Package server runs one net/http server: it listens, bounds what its clients can hold, and
// leaves without cutting anyone off. It knows no route.
package server

import (
	"context"
	"crypto/tls"
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

const requestTimeout, idleTimeout = 10 * time.Second, 620 * time.Second // Google's balancers close after 600

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
	// From before the port is open to the end of the process. A channel each: what is full drops the next.
	terminate, interrupt := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	signal.Notify(interrupt, os.Interrupt)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.Log.Info("listening", "addr", l.Addr().String())
	limit := syscall.Rlimit{Cur: 256}
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	open := &conns{Listener: l, log: s.Log, max: int(min(128, limit.Cur/2))}
	if s.Certificate != nil {
		open.tls = tlsConfig(s.Certificate)
	}
	srv := s.httpServer(open)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(open) }()
	cause, drain := os.Interrupt, time.Duration(0)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case <-interrupt:
	case cause = <-terminate:
		drain = s.Drain
	}
	go func() {
		<-interrupt
		os.Exit(130) // as a shell calls an end by SIGINT
	}()
	s.Draining.Store(true)
	s.Log.Info("draining", "signal", cause.String(), "for", drain.String())
	select {
	case <-ctx.Done():
	case <-time.After(drain):
	}
	open.Close()
	<-served
	timeout, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	open.wait(cause == os.Interrupt)
	if srv.Shutdown(timeout) != nil {
		srv.Close()
		s.Log.Warn("requests cut off", "after", requestTimeout.String())
	}
	s.Log.Info("stopped")
	return nil
}

func (s *Server) httpServer(open *conns) *http.Server {
	handler := s.Handler
	if s.Verbose {
		handler = logged(s.Log, handler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:                      open.retiring(s.Draining, handler),
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true,
		ConnState:                    open.track,
		ErrorLog:                     slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		IdleTimeout:                  -1,      // see conn.SetReadDeadline
		MaxHeaderBytes:               8 << 10, // net/http adds 4 KiB
		// What one connection can hold, times their number, stays within the memory limit. Frames and
		// windows are what clients may send before they read SETTINGS (RFC 9113, 4.2 and 6.9.2).
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 16, MaxReadFrameSize: 16 << 10, WriteByteTimeout: requestTimeout,
			MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10,
		},
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
	}
}
