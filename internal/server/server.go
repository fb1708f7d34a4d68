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
	headerTimeout = 5 * time.Second
	// requestTimeout bounds a whole request, an answer, and the wait for what
	// is in flight when the server stops.
	requestTimeout = 10 * time.Second
	// idleTimeout is longer than the 60 s of AWS's balancers and the 600 s of
	// Google's, so that the balancer closes first and no request of its meets a
	// closing connection.
	idleTimeout = 620 * time.Second
	// settleTime lets a request that has reached the machine reach a handler.
	// Shutdown alone drops one whose header it has just read.
	settleTime = 100 * time.Millisecond
	// bodyTimeout is how long the body of an answered request may still come.
	bodyTimeout = 500 * time.Millisecond

	maxHeaderBytes = 8 << 10  // net/http adds 4 KiB
	maxBodyBytes   = 64 << 10 // read, and dropped, of an HTTP/2 request
)

// Server is the configuration of [Server.Run]. Handler and Log are required.
type Server struct {
	Handler http.Handler
	Log     *slog.Logger
	Drain   time.Duration // how long to keep serving after SIGTERM
	OnStop  func()        // called once, at the first signal, before any wait
	Verbose bool          // log every request
	// Certificate makes the server speak TLS; nil is plain TCP. It is asked to
	// refresh itself in every handshake.
	Certificate *reload.Value[*tls.Certificate]
}

// Run listens on addr (host:port, see [net.Listen]) and serves until SIGTERM,
// SIGINT or the end of ctx, which counts as SIGINT. It returns nil once the
// server has stopped as asked, and otherwise why it could not listen or serve.
//
// After the first signal another SIGTERM changes nothing, and SIGINT ends the
// process at once.
func (s *Server) Run(ctx context.Context, addr string) error {
	// Before the port is open: whoever finds it open may signal.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer close(signals)
	defer signal.Stop(signals)

	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.Log.Info("listening", "addr", tcp.Addr().String())
	open := &conns{max: maxConns()}
	var stopping atomic.Bool
	srv := s.httpServer(open, &stopping)
	served := make(chan error, 1)
	go func() {
		l := listener{tcp.(*net.TCPListener), open}
		if s.Certificate != nil {
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
	go func() { // the next SIGINT ends the process
		for sig := range signals {
			if sig == os.Interrupt {
				os.Exit(130) // as a shell says of one that SIGINT has ended
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
	tcp.Close()
	<-served
	time.Sleep(settleTime)
	if cause == os.Interrupt {
		open.closeSilent(s.Certificate != nil) // Shutdown waits 5 s for them
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

// httpServer returns the server with every limit set.
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
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ConnState:                    open.track,
		ErrorLog:                     errorLog(s.Log),
		// What one connection can hold, times the number of connections, stays
		// within the memory limit. All else is net/http's default.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 16,
			// No less than what clients may send before they read SETTINGS (RFC
			// 9113, sections 4.2 and 6.9.2).
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

// retiring decides which answers are the last of their connection, and lets no
// answer wait for the body of its request: nothing here reads one.
func retiring(open *conns, stopping *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.ContentLength != 0
		// net/http forgets the Transfer-Encoding of an HTTP/1.0 request; RFC 9112,
		// section 6.1, has its connection closed.
		if body || !r.ProtoAtLeast(1, 1) || stopping.Load() || open.crowded() {
			w.Header().Set("Connection", "close") // of HTTP/2, net/http makes GOAWAY
		}
		if !body {
			next.ServeHTTP(w, r)
			return
		}
		answer := http.NewResponseController(w)
		answer.SetReadDeadline(time.Now().Add(bodyTimeout))
		next.ServeHTTP(w, r)
		if r.ProtoMajor == 2 {
			// A return resets a stream whose body has not ended, and curl 7.88 then
			// drops the answer that it has got.
			answer.Flush()
			io.CopyN(io.Discard, r.Body, maxBodyBytes)
		}
	})
}
