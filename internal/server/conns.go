package server

import (
	"container/list"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
)

// One rule bounds what clients can hold: at most max connections are open, and
// for one more, the one whose state changed longest ago is closed. A probe is
// done within a millisecond, so under a flood the one that goes is the flood's.

// conns is the set of open connections.
type conns struct {
	max int

	mu   sync.Mutex
	list list.List // of *conn, the one whose state changed longest ago first
}

// conn is a connection in the set.
type conn struct {
	*net.TCPConn
	spoke atomic.Bool // something has come from the client

	// Guarded by conns.mu.
	place *list.Element
	state http.ConnState
}

// Read lets the others run after every read: one connection's flood of HTTP/2
// frames would else keep the processor from them.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	switch {
	case n > 0:
		c.spoke.Store(true)
		runtime.Gosched()
	case err != nil && !c.spoke.Load():
		err = io.EOF // however it ended, it was silent: see errorLog
	}
	return n, err
}

// rawConn returns the *conn that c is, or that carries its TLS.
func rawConn(c net.Conn) *conn {
	if overTLS, ok := c.(*tls.Conn); ok {
		c = overTLS.NetConn()
	}
	return c.(*conn)
}

// track is the http.Server's ConnState hook.
func (s *conns) track(nc net.Conn, state http.ConnState) {
	c := rawConn(nc)
	var oldest *conn
	s.mu.Lock()
	c.state = state
	switch state {
	case http.StateNew:
		c.place = s.list.PushBack(c)
		if s.list.Len() > s.max {
			oldest = s.list.Remove(s.list.Front()).(*conn)
		}
	case http.StateClosed:
		s.list.Remove(c.place) // does nothing if it is out already
	default:
		s.list.MoveToBack(c.place)
	}
	s.mu.Unlock()
	if oldest != nil {
		oldest.TCPConn.Close() // not its tls.Conn, whose Close may wait for the client
	}
}

// crowded reports whether more than half of the connections are taken.
func (s *conns) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list.Len() > s.max/2
}

// closeSilent closes the connections that have sent nothing; over TLS, those
// without a request, for there the handshake is something.
func (s *conns) closeSilent(overTLS bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.list.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); c.state == http.StateNew && (overTLS || !c.spoke.Load()) {
			c.TCPConn.Close()
		}
	}
}

// listener accepts into the set.
type listener struct {
	*net.TCPListener
	open *conns
}

// Accept lets the connected run first when it is crowded: the last one that was
// accepted may be a probe, and what was closed has memory to give back.
func (l listener) Accept() (net.Conn, error) {
	if l.open.crowded() {
		runtime.Gosched()
	}
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &conn{TCPConn: c}, nil
}
