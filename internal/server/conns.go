package server

import (
	"bytes"
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// What strangers can make the process hold is bounded here. Every open
// connection is charged with the memory that it may take; when the sum would
// pass the budget, the most expensive connections are closed, of equals the
// one whose state changed longest ago. A probe sends little and is gone within
// a millisecond, so under a flood that is always one of the flood's own.

// Memory in bytes, as measured with thousands of each.
const (
	budget     = 20 << 20 // leaves room for garbage in memoryLimit
	costConn   = 16 << 10 // an open connection: its buffers and a goroutine
	costNew    = 1        // one that never asked goes before one that did
	costTLS    = 32 << 10 // what TLS adds to a connection
	costHeader = 6        // each byte of a header of many short lines
	costHTTP2  = 80 << 10 // an HTTP/2 connection: frames, tables, goroutines
	costStream = 64 << 10 // an HTTP/2 request with a 16 KiB header
)

// maxKept is the number of open connections above which every answer carries
// "Connection: close".
const maxKept = 512

// maxEvicted is the number of evicted connections whose memory may still be in
// use while others are accepted.
const maxEvicted = 8

// conns is the set of open connections, made by newConns.
type conns struct {
	mu      sync.Mutex
	list    list.List // of *conn, the one whose state changed longest ago first
	cost    int
	evicted int       // closed to make room, not yet gone
	fewer   sync.Cond // evicted went down
}

// conn is a connection with what net/http does not tell of it.
type conn struct {
	*net.TCPConn
	set *conns
	tls bool

	// The rest is guarded by set.mu.
	element *list.Element // nil while not in the set
	state   http.ConnState
	cost    int
	spoke   bool // has sent something since it was new or last idle
	http2   bool
}

func newConns() *conns {
	s := new(conns)
	s.fewer.L = &s.mu
	return s
}

// connKey is the context key under which a request finds its *conn.
type connKey struct{}

// listener makes a *conn of every connection that it accepts.
type listener struct {
	*net.TCPListener
	set *conns
	tls bool
}

// Accept waits while evicted connections hold memory: they need nothing but
// the processor to go, and a flood of new ones would take it from them.
func (l listener) Accept() (net.Conn, error) {
	l.set.mu.Lock()
	for l.set.evicted > maxEvicted {
		l.set.fewer.Wait()
	}
	l.set.mu.Unlock()
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &conn{TCPConn: c, set: l.set, tls: l.tls}, nil
}

// Read charges the connection for what the client sends, and notes whether it
// opens with the preface of HTTP/2 (RFC 9113, section 3.4).
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n == 0 {
		return n, err
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if !c.tls && c.state == http.StateNew && !c.spoke && bytes.HasPrefix(p[:n], []byte("PRI ")) {
		c.http2 = true
		c.set.charge(c, costHTTP2)
	}
	c.spoke = true
	if !c.http2 {
		c.set.charge(c, n*costHeader)
	}
	return n, err
}

// stream charges the connection of an HTTP/2 request for as long as the
// request is being answered, which the client can draw out: until the returned
// function is called.
func (s *conns) stream(ctx context.Context) (done func()) {
	c := ctx.Value(connKey{}).(*conn)
	charge := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.charge(c, n)
	}
	charge(costStream)
	return func() { charge(-costStream) }
}

// beneath returns the *conn that nc is or that carries its TLS.
func beneath(nc net.Conn) *conn {
	if overTLS, ok := nc.(*tls.Conn); ok {
		nc = overTLS.NetConn()
	}
	return nc.(*conn)
}

// note is the http.Server's ConnState hook.
func (s *conns) note(nc net.Conn, state http.ConnState) {
	c := beneath(nc)
	// Asked for before the lock: a handshake reads under a lock of its own.
	overTLS, _ := nc.(*tls.Conn)
	http2 := overTLS != nil && state == http.StateActive && overTLS.ConnectionState().NegotiatedProtocol == "h2"
	s.mu.Lock()
	defer s.mu.Unlock()
	c.state = state
	if http2 && !c.http2 {
		c.http2 = true
		s.charge(c, costHTTP2)
	}
	switch {
	case state == http.StateNew:
		c.element = s.list.PushBack(c)
		s.charge(c, c.base()+costNew)
	case c.element == nil: // evicted
		if state == http.StateClosed {
			s.evicted--
			s.fewer.Signal()
		}
	case state == http.StateClosed:
		s.remove(c)
	case state == http.StateIdle && !c.http2:
		c.spoke = false
		s.charge(c, c.base()-c.cost)
		fallthrough
	default:
		s.list.MoveToBack(c.element)
	}
}

// base is the cost of an HTTP/1 connection without a request.
func (c *conn) base() int {
	if c.tls {
		return costConn + costTLS
	}
	return costConn
}

// charge adds n to the cost of c and makes room for it.
func (s *conns) charge(c *conn, n int) {
	if c.element == nil {
		return
	}
	c.cost += n
	s.cost += n
	for s.cost > budget {
		worst := s.list.Front().Value.(*conn)
		for e := s.list.Front(); e != nil; e = e.Next() {
			if c := e.Value.(*conn); c.cost > worst.cost {
				worst = c
			}
		}
		s.remove(worst)
		s.evicted++
		worst.Close()
	}
}

func (s *conns) remove(c *conn) {
	s.list.Remove(c.element)
	c.element = nil
	s.cost -= c.cost
}

// crowded reports whether more connections are open than answers may keep.
func (s *conns) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list.Len() > maxKept
}

// waiting counts the connections that a stopping server still waits for:
// those with a request on its way or being answered and, if silent is set,
// those that may be about to send their first. What an HTTP/2 client sends
// between requests (a PING, say) is no request, and neither is a TLS handshake.
func (s *conns) waiting(silent bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.list.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn)
		asking := c.spoke && !c.http2 && !(c.tls && c.state == http.StateNew)
		if c.state == http.StateActive || asking || silent && c.state == http.StateNew {
			n++
		}
	}
	return n
}

// closeNew closes the connections that have not completed a request.
func (s *conns) closeNew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.list.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); c.state == http.StateNew {
			c.Close()
		}
	}
}
