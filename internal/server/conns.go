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
	"syscall"
	"time"
)

// conns is the set of open connections. One rule bounds what clients can hold: at most max are
// open, and for one more, the one whose state changed longest ago is closed. A probe is done within
// a millisecond, so under a flood the one that goes is the flood's own.
type conns struct {
	max   int
	paced int // connections accepted in a crowd; for Accept's goroutine alone
	mu    sync.Mutex
	list  list.List // of *conn, the one whose state changed longest ago first
}

// maxConns is 128, or half of the process's descriptors if that is less.
func maxConns() int {
	limit := syscall.Rlimit{Cur: 256}
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(min(128, limit.Cur/2))
}

// conn is a connection in the set, whose mu guards place and state.
type conn struct {
	net.Conn
	spoke atomic.Bool // something has come from the client
	place *list.Element
	state http.ConnState
}

// Read lets others run after every read: one connection's flood of HTTP/2 frames would stop them.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.spoke.Store(true)
		runtime.Gosched()
	} else if err != nil && !c.spoke.Load() {
		err = io.EOF // however it ended, it was silent: see complaints
	}
	return n, err
}

// SetReadDeadline lets no read wait longer than idleTimeout. With Server.IdleTimeout instead,
// net/http keeps what an HTTP/2 connection holds for so long, if a request is open at its end.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		t = time.Now().Add(idleTimeout)
	}
	return c.Conn.SetReadDeadline(t)
}

// listener makes a *conn of every connection.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &conn{Conn: c}, err
}

// track is the http.Server's ConnState hook. In a crowd it holds Accept up, which calls it with
// StateNew: those who are connected run first, and at times what has come in reaches them.
func (s *conns) track(nc net.Conn, state http.ConnState) {
	if state == http.StateNew && s.crowded() {
		runtime.Gosched()
		if s.paced++; s.paced%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if overTLS, ok := nc.(*tls.Conn); ok {
		nc = overTLS.NetConn() // whose Close never waits for the client
	}
	c := nc.(*conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.state = state; state {
	case http.StateNew:
		if c.place = s.list.PushBack(c); s.list.Len() > s.max {
			s.list.Remove(s.list.Front()).(*conn).Close()
		}
	case http.StateClosed:
		s.list.Remove(c.place) // nothing, if it is out already; so for MoveToBack
	default:
		s.list.MoveToBack(c.place)
	}
}

// crowded reports whether more than half of the places are taken.
func (s *conns) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list.Len() > s.max/2
}

// closeSilent closes the connections that have sent nothing.
func (s *conns) closeSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.list.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); c.state == http.StateNew && !c.spoke.Load() {
			c.Close()
		}
	}
}
