// Package server runs one net/http server: it listens, bounds what its clients
// can hold, and leaves without cutting anyone off. It knows no route.
package server

import (
	"context"
	"crypto/tls"
	"io"
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
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second       // of a request, of its answer, and of what is in flight at the end
	idleTimeout    = 620 * time.Second      // longer than the 600 s of Google's balancers, which so close first
	bodyTimeout    = 500 * time.Millisecond // for the rest of an answered request
	settleTime     = 100 * time.Millisecond // for what has reached the machine to reach a handler
)

// Server is the configuration of [Server.Run].
type Server struct {
	Handler     http.Handler
	Log         *slog.Logger
	Drain       time.Duration                   // how long to keep serving after SIGTERM
	OnStop      func()                          // called once, at the first signal, before any wait
	Verbose     bool                            // log every request
	Certificate *reload.Value[*tls.Certificate] // speak TLS; refreshed in every handshake; nil is plain TCP
}

// Run listens on addr (host:port, see [net.Listen]) and serves until SIGTERM,
// SIGINT or the end of ctx, which counts as SIGINT. It returns nil once the
// server has stopped as asked, and otherwise why it could not listen or serve.
// After the first signal another SIGTERM changes nothing, and SIGINT ends the
// process at once.
func (s *Server) Run(ctx context.Context, addr string) error {
	// Before the port is open: whoever finds it open may signal.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer close(signals)
	defer signal.Stop(signals)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.Log.Info("listening", "addr", l.Addr().String())
	open := &conns{max: maxConns()}
	var stopping atomic.Bool
	srv := s.httpServer(open, &stopping)
	served := make(chan error, 1)
	go func() {
		if l := (listener{l.(*net.TCPListener), open}); s.Certificate != nil {
			served <- srv.ServeTLS(l, "", "")
		} else {
			served <- srv.Serve(l)
		}
	}()

	cause, drain := os.Interrupt, time.Duration(0)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case cause = <-signals:
	}
	go func() {
		for next := range signals {
			if next == os.Interrupt {
				os.Exit(130) // as a shell calls an end by SIGINT
			}
		}
	}()
	if cause == syscall.SIGTERM {
		drain = s.Drain
	}
	stopping.Store(true)
	s.OnStop()
	s.Log.Info("draining", "signal", cause.String(), "for", drain.String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case <-time.After(drain):
	}
	// Shutdown alone drops a request whose header it has just read.
	l.Close()
	<-served
	time.Sleep(settleTime)
	if cause == os.Interrupt {
		open.closeSilent(s.Certificate != nil) // Shutdown would wait 5 s for them
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
func (s *Server) httpServer(open *conns, stopping *atomic.Bool) *http.Server {
	handler := s.Handler
	if s.Verbose {
		handler = logged(s.Log, handler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:                      retiring(open, stopping, handler),
		Protocols:                    protocols,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 requestTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               8 << 10, // net/http adds 4 KiB
		DisableGeneralOptionsHandler: true,
		ConnState:                    open.track,
		ErrorLog:                     errorLog(s.Log),
		// What one connection can hold, times their number, stays within the memory
		// limit. Frames and windows are no smaller than what clients may send before
		// they read SETTINGS (RFC 9113, sections 4.2 and 6.9.2).
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          16,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			WriteByteTimeout:              requestTimeout,
		},
	}
	if s.Certificate != nil {
		srv.TLSConfig = tlsConfig(s.Certificate)
	}
	return srv
}

// retiring says which answers are the last of their connection, and lets none wait
// for the body of its request: nothing here reads one.
func retiring(open *conns, stopping *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.ContentLength != 0
		// net/http forgets the Transfer-Encoding of an HTTP/1.0 request, whose
		// connection must end (RFC 9112, section 6.1).
		if body || !r.ProtoAtLeast(1, 1) || stopping.Load() || open.crowded() {
			w.Header().Set("Connection", "close") // of HTTP/2, net/http makes GOAWAY
		}
		answer := http.NewResponseController(w)
		if body {
			answer.SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
		if body && r.ProtoMajor == 2 {
			// To return resets the stream, and curl 7.88 then drops the answer it has.
			answer.Flush()
			io.CopyN(io.Discard, r.Body, 64<<10)
		}
	})
}
