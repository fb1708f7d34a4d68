// Package server runs one net/http server: it listens, holds strangers to
// limits, and leaves without cutting anyone off. It knows no route.
package server

import (
	"context"
	"crypto/tls"
	"errors"
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
	// idleTimeout is longer than the 60 s of AWS's balancers and the 600 s of
	// Google's: the balancer closes first, so that no request of its meets a
	// connection that is being closed here.
	idleTimeout = 620 * time.Second
	// requestTimeout bounds a whole request, an answer, and the wait for what
	// is in flight when the server stops.
	requestTimeout = 10 * time.Second
	// settle is how long a request that has reached the machine may take to
	// reach the server.
	settle         = 100 * time.Millisecond
	maxHeaderBytes = 16 << 10
)

// Server is the configuration of [Server.Run]. Handler and Log are required.
type Server struct {
	Handler http.Handler
	Log     *slog.Logger
	// Drain is how long to keep serving after SIGTERM.
	Drain time.Duration
	// OnStop, if set, is called once, when the first signal comes and before
	// any waiting.
	OnStop func()
	// Verbose logs every request.
	Verbose bool
	// Certificate, if set, makes the server speak TLS, and is looked at anew in
	// every handshake.
	Certificate *reload.Value[tls.Certificate]
}

// Run listens on addr (host:port, see [net.Listen]) and serves until SIGTERM,
// SIGINT or the end of ctx, which counts as SIGINT. It returns nil once the
// server has stopped as asked, and otherwise why it could not listen or serve.
//
// After the first signal the next one ends the process.
func (s *Server) Run(ctx context.Context, addr string) error {
	// Before the socket exists: whoever has seen the port open may signal.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var (
		open     = newConns(s.Certificate != nil)
		stopping atomic.Bool
		served   = make(chan error, 1)
	)
	srv := s.httpServer(open, &stopping)
	s.Log.Info("listening", "addr", l.Addr().String())
	l = &listener{TCPListener: l.(*net.TCPListener), set: open, log: s.Log}
	go func() {
		if s.Certificate == nil {
			served <- srv.Serve(l)
		} else {
			served <- srv.ServeTLS(l, "", "")
		}
	}()

	cause := os.Interrupt
	select {
	case err := <-served:
		return err
	case cause = <-signals:
	case <-ctx.Done():
	}
	// From here on a signal has the system's own effect: it ends the process.
	if signal.Stop(signals); len(signals) > 0 {
		return errors.New("a second signal came at once")
	}
	stopping.Store(true)
	if s.OnStop != nil {
		s.OnStop()
	}
	drain := s.Drain
	if cause == os.Interrupt {
		drain = 0
	}
	s.Log.Info("draining", "signal", cause.String(), "for", drain.String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case <-time.After(drain):
	}
	l.Close()
	<-served // every connection that was accepted is in open now
	s.finish(srv, open, cause != os.Interrupt)
	s.Log.Info("stopped")
	return nil
}

// finish waits for the requests that are on their way or being answered,
// requestTimeout at the most, and closes every connection. If silent is set it
// also waits for the connections that have sent nothing yet (until
// headerTimeout ends them).
//
// [http.Server.Shutdown] alone drops a request whose header it has just read
// or is still reading; here it finds nothing left but idle connections.
func (s *Server) finish(srv *http.Server, open *conns, silent bool) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	time.Sleep(settle) // what is in the socket and not yet read shows in no state
	for open.waiting(silent) > 0 && ctx.Err() == nil {
		time.Sleep(settle / 10)
	}
	open.closeNew()
	if err := srv.Shutdown(ctx); err != nil {
		s.Log.Warn("connections cut off", "count", open.waiting(true), "after", requestTimeout.String())
		srv.Close()
	}
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
		Handler:                      limited(open, stopping, handler),
		Protocols:                    protocols,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 requestTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ConnState:                    open.note,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, beneath(c))
		},
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		HTTP2: &http.HTTP2Config{
			// 100 would be usual (RFC 9113, section 6.5.2), but what a client opens
			// at once has been paid for before it can be charged: a hundred times
			// 10 KiB from each of a hundred connections.
			MaxConcurrentStreams:          16,
			MaxDecoderHeaderTableSize:     256,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 64 << 10,
			// No less than what a client may send before it has read this.
			MaxReceiveBufferPerStream: 64 << 10,
			WriteByteTimeout:          requestTimeout,
		},
	}
	if s.Certificate != nil {
		srv.TLSConfig = tlsConfig(s.Certificate)
	}
	return srv
}
