package server

import (
	"container/list"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// conns is a listener and its open connections. One rule bounds what clients can hold: at most max
// are open, and for one more, the one whose state changed longest ago is closed. A probe is done
// within a millisecond, so under a flood the one that goes is the flood's own.
type conns struct {
	net.Listener
	tls     *tls.Config // nil is plain TCP
	log     *slog.Logger
	max     int
	crowded atomic.Bool // more than half of the places are taken
	mu      sync.Mutex
	list    list.List // of *conn, the one whose state changed longest ago first
}

type conn struct {
	net.Conn // over TLS a *tls.Conn, whose first Read is the handshake
	tcp      net.Conn
	log      *slog.Logger
	spoke    atomic.Bool // a Read has returned: something has come, or the handshake has failed
	fresh    bool        // no request has come; guarded by mu, as is place
	place    *list.Element
}

// Read lets others run, whom a flood of HTTP/2 frames would stop: after each frame over TLS too, for
// TLS is beneath net/http, which would take a record of a thousand frames in one read.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 1<<10)]) // twenty pipelined requests, not a hundred
	if !c.spoke.Swap(true) && c.Conn != c.tcp {
		n, err = c.opening(p[:n], err)
	}
	runtime.Gosched()
	return n, err
}

// SetReadDeadline lets no read wait longer than idleTimeout. The timer of Server.IdleTimeout would
// keep an HTTP/2 connection's memory for so long after its client has left with a request open.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		t = time.Now().Add(idleTimeout)
	}
	return c.Conn.SetReadDeadline(t)
}

// Close says farewell in 20 ms at most. A tls.Conn's would wait for one who does not read, or for ever.
func (c *conn) Close() error {
	defer time.AfterFunc(20*time.Millisecond, func() { c.tcp.Close() }).Stop()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer that has no length, as that to a header too large.
func (c *conn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Accept makes a *conn of a connection. In a crowd it lets those run that are open.
func (s *conns) Accept() (net.Conn, error) {
	tcp, err := s.Listener.Accept()
	if s.crowded.Load() {
		runtime.Gosched()
		if rand.N(16) == 0 {
			time.Sleep(time.Millisecond) // a P that is never idle has the network polled every 10 ms only
		}
	}
	c := &conn{Conn: tcp, tcp: tcp, log: s.log}
	if s.tls != nil {
		c.Conn = tls.Server(tcp, s.tls)
	}
	return c, err
}

func (s *conns) track(nc net.Conn, state http.ConnState) {
	c := nc.(*conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.fresh = state == http.StateNew
	switch state {
	case http.StateNew:
		c.place = s.list.PushBack(c)
		if s.list.Len() > s.max {
			s.list.Remove(s.list.Front()).(*conn).tcp.Close()
		}
	case http.StateClosed:
		s.list.Remove(c.place) // nothing, if it is out already; so for MoveToBack
	default:
		s.list.MoveToBack(c.place)
	}
	s.crowded.Store(s.list.Len() > s.max/2)
}

// retiring ends a connection with its answer: in a drain, in a crowd, for an HTTP/1 body, since net/http
// would wait for it, and for HTTP/1.0, whose Transfer-Encoding net/http forgets (RFC 9112, section 6.1).
func (s *conns) retiring(draining *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.ContentLength != 0
		if body && r.ProtoMajor == 1 || !r.ProtoAtLeast(1, 1) || draining.Load() || s.crowded.Load() {
			w.Header().Set("Connection", "close") // of HTTP/2, net/http makes GOAWAY
		}
		if body {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			if r.ProtoMajor == 2 { // net/http would reset the stream, and curl 7.88 drop the answer
				io.CopyN(io.Discard, r.Body, 1<<20)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// wait lets a first request that is on its way come, if it does within 5 s. Shutdown would drop it.
// Interrupted, it closes the connections that have sent nothing instead.
func (s *conns) wait(interrupted bool) {
	for late, any := time.Now().Add(5*time.Second), true; any && time.Now().Before(late); {
		time.Sleep(100 * time.Millisecond) // of what has reached the machine no state tells
		any = false
		s.mu.Lock()
		for e := s.list.Front(); e != nil; e = e.Next() {
			if c := e.Value.(*conn); c.fresh && interrupted && !c.spoke.Load() {
				c.tcp.Close()
			} else if c.fresh {
				any = true
			}
		}
		s.mu.Unlock()
	}
}
