package server

import (
	"container/list"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"syscall"
	"time"
)

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
	asked   bool // has had a request
	http2   bool
}

// burden tells which connection to close first: a silent one, or else the one
// with the highest cost. Small differences are none.
func (c *conn) burden() int {
	if c.state == http.StateNew && !c.spoke {
		return math.MaxInt
	}
	return c.cost / costConn
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
	tls  bool
	log  *slog.Logger
	told time.Time // when it was last logged that descriptors ran out
}

// Accept waits while evicted connections hold memory: they need nothing but
// the processor to go, and a flood of new ones would take it from them. Out of
// descriptors, it closes a connection for the next.
func (l *listener) Accept() (net.Conn, error) {
	l.set.waitForEvicted(maxEvicted)
	for {
		c, err := l.AcceptTCP()
		if err == nil {
			return &conn{TCPConn: c, set: l.set, tls: l.tls}, nil
		}
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) || !l.set.evictOne() {
			return nil, err
		}
		if time.Since(l.told) >= time.Second {
			l.told = time.Now()
			l.log.Warn("out of file descriptors; closing connections for new ones", "err", err)
		}
		l.set.waitForEvicted(0)
	}
}

// Read charges the connection for what the client sends.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		c.set.mu.Lock()
		defer c.set.mu.Unlock()
		if c.tls && c.state == http.StateNew && !c.spoke {
			c.set.charge(c, costTLS)
		}
		c.spoke = true
		if !c.http2 {
			c.set.charge(c, n*costHeader)
		}
	}
	return n, err
}
