package server

import (
	"container/list"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"time"
)

// conn is a connection with what net/http does not tell of it.
type conn struct {
	*net.TCPConn
	set *conns

	// The rest is guarded by set.mu.
	element *list.Element // nil while not in the set
	state   http.ConnState
	cost    int
	read    int  // bytes since it was new or last idle
	asked   bool // has had a request
	http2   bool
}

// beneath returns the *conn that nc is or that carries its TLS.
func beneath(nc net.Conn) *conn {
	if overTLS, ok := nc.(*tls.Conn); ok {
		nc = overTLS.NetConn()
	}
	return nc.(*conn)
}

// connKey is the context key under which a request finds its *conn.
type connKey struct{}

// listener makes a *conn of every connection that it accepts.
type listener struct {
	*net.TCPListener
	set  *conns
	log  *slog.Logger
	told time.Time // when it was last logged that descriptors ran out
}

// Accept waits while evicted connections hold memory: they need nothing but
// the processor to go, and a flood of new ones would take it from them. Out of
// descriptors, it closes a connection for the next. Where connections may have
// to go, it yields first: one that has just been accepted may be a probe.
func (l *listener) Accept() (net.Conn, error) {
	if l.set.waitForEvicted(maxEvicted) {
		runtime.Gosched()
	}
	for waited := false; ; {
		c, err := l.AcceptTCP()
		if err == nil {
			return &conn{TCPConn: c, set: l.set}, nil
		}
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return nil, err
		}
		if time.Since(l.told) >= time.Second {
			l.told = time.Now()
			l.log.Warn("out of file descriptors; closing connections for new ones", "err", err)
		}
		switch {
		case l.set.evictOne(!waited):
			l.set.waitForEvicted(0)
		case waited:
			return nil, err
		default: // those that were accepted last are about to be answered
			time.Sleep(time.Millisecond)
			waited = true
		}
	}
}

// Read charges the connection for what the client sends.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n == 0 {
		return n, err
	}
	c.set.mu.Lock()
	if c.set.tls && c.state == http.StateNew && c.read == 0 {
		c.set.charge(c, costTLS)
	}
	before := max(c.read, freeHeader)
	c.read += n
	if !c.http2 && c.read > before {
		c.set.charge(c, (c.read-before)*costHeader)
	}
	http2 := c.http2
	c.set.unlock()
	if http2 {
		// One record may hold many requests. Those that have been read are
		// answered before more are.
		runtime.Gosched()
	}
	return n, err
}
