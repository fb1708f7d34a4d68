package server

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// What strangers can make the process hold is bounded here. Every open
// connection is charged with the memory that it may take; when the sum would
// pass the budget, the most expensive connection is closed, and of equals the
// one whose state changed longest ago. A probe sends little and is gone within
// a millisecond, so under a flood that is always one of the flood's own.

// Memory in bytes, as measured with thousands of each.
const (
	budget     = 20 << 20 // leaves room for garbage within the soft memory limit
	costConn   = 16 << 10 // an open connection: its buffers and a goroutine
	costTLS    = 32 << 10 // what TLS adds to a connection
	costHeader = 6        // each byte of a header of many short lines, beyond
	freeHeader = 2 << 10  // as many bytes as a usual request, or a TLS handshake, has
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
	tls bool // all of them

	mu      sync.Mutex
	list    list.List // of *conn, the one whose state changed longest ago first
	cost    int
	closing []*conn   // to be closed to make room
	evicted int       // closed to make room, or about to be, and not yet gone
	fewer   sync.Cond // evicted went down
}

func newConns(tls bool) *conns {
	s := &conns{tls: tls}
	s.fewer.L = &s.mu
	return s
}

// all ranges over the connections, the one whose state changed longest ago
// first. Whoever removes one must end the loop.
func (s *conns) all(yield func(*conn) bool) {
	for e := s.list.Front(); e != nil && yield(e.Value.(*conn)); e = e.Next() {
	}
}

// begin notes that c has a request, which end ends. It reports whether more
// connections are open than answers may keep, and whether there is room for
// some that linger after theirs. An HTTP/2 request is charged for in between,
// for its client can draw the answer out.
func (s *conns) begin(c *conn) (crowded, roomy bool) {
	s.mu.Lock()
	defer s.unlock()
	c.asked = true
	if c.http2 {
		s.charge(c, costStream)
	} else if c.read > freeHeader {
		s.charge(c, (c.read-freeHeader)*costHeader)
	}
	return s.list.Len() > maxKept, s.cost < budget/2
}

func (s *conns) end(c *conn) {
	s.mu.Lock()
	defer s.unlock()
	if c.http2 {
		s.charge(c, -costStream)
	}
}

// note is the http.Server's ConnState hook.
func (s *conns) note(nc net.Conn, state http.ConnState) {
	c := beneath(nc)
	s.mu.Lock()
	defer s.unlock()
	c.state = state
	switch {
	case state == http.StateNew:
		c.element = s.list.PushBack(c)
		s.charge(c, costConn)
	case c.element == nil: // evicted
		if state == http.StateClosed {
			s.evicted--
			s.fewer.Signal()
		}
	case state == http.StateClosed:
		s.remove(c)
	case state == http.StateIdle && !c.asked && !c.http2: // only HTTP/2 is idle before a request
		c.http2 = true
		s.charge(c, costHTTP2)
	case !c.http2:
		// The header is gone, or was too long and never came to be: net/http lets
		// that connection linger for half a second, and evicting it would not
		// hasten its end. That of a request is charged for anew when it begins.
		s.charge(c, s.bare()-c.cost)
		if state == http.StateIdle {
			c.read = 0
		}
		fallthrough
	default:
		s.list.MoveToBack(c.element)
	}
}

// bare is the cost of an HTTP/1 connection without a request.
func (s *conns) bare() int {
	if s.tls {
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
		s.evict(s.worst())
	}
}

// worst is the connection with the highest cost, in coarse steps: a small
// difference is no reason to close one rather than an older one. There must be
// one.
func (s *conns) worst() *conn {
	const step = 64 << 10
	worst := s.list.Front().Value.(*conn)
	for c := range s.all {
		if c.cost/step > worst.cost/step {
			worst = c
		}
	}
	return worst
}

func (s *conns) evict(c *conn) {
	s.remove(c)
	s.evicted++
	s.closing = append(s.closing, c)
}

// unlock closes what was evicted under the lock, but not under it: while a
// goroutine that holds it is in the kernel, thousands may come to wait for it.
func (s *conns) unlock() {
	closing := s.closing
	s.closing = nil
	s.mu.Unlock()
	for _, c := range closing {
		c.Close()
	}
}

// evictOne evicts a connection, the one that has been idle longest if there is
// one, or else, unless only an idle one will do, the worst. It reports whether
// there was any. For a descriptor all are worth the same, and who is idle has had
// an answer.
func (s *conns) evictOne(idleOnly bool) bool {
	s.mu.Lock()
	defer s.unlock()
	for c := range s.all {
		if c.state == http.StateIdle {
			s.evict(c)
			return true
		}
	}
	if idleOnly || s.list.Len() == 0 {
		return false
	}
	s.evict(s.worst())
	return true
}

// waitForEvicted waits until no more than n evicted connections are left, and
// reports whether more are open than answers may keep.
func (s *conns) waitForEvicted(n int) (crowded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.evicted > n {
		s.fewer.Wait()
	}
	return s.list.Len() > maxKept
}

func (s *conns) remove(c *conn) {
	s.list.Remove(c.element)
	c.element = nil
	s.cost -= c.cost
}

// waiting counts the connections that a stopping server still waits for:
// those with a request on its way or being answered and, if silent is set,
// those that may be about to send their first. What an HTTP/2 client sends
// between requests (a PING, say) is no request, and neither is a TLS handshake.
func (s *conns) waiting(silent bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		asking := c.read > 0 && !c.http2 && !(s.tls && c.state == http.StateNew)
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
	for c := range s.all {
		if c.state == http.StateNew {
			c.Close()
		}
	}
}
