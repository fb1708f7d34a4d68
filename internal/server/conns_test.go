package server

import (
	"net"
	"net/http"
	"testing"
)

// open adds a connection that costs nothing but its place.
func (s *conns) open(t *testing.T) *conn {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := dial(t, l.Addr().String())
	t.Cleanup(func() { client.Close() })
	c, err := (&listener{TCPListener: l, set: s}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.note(c, http.StateNew)
	return c.(*conn)
}

// serve takes c through the states of one HTTP/1 request.
func (s *conns) serve(c *conn) {
	s.note(c, http.StateActive)
	s.begin(c)
	s.end(c)
	s.note(c, http.StateIdle)
}

func TestWhichConnectionMakesRoom(t *testing.T) {
	t.Parallel()
	s := newConns(false)
	kept := s.open(t)
	s.serve(kept)
	silent, greedy, probe := s.open(t), s.open(t), s.open(t)
	s.charge(greedy, 16<<10*costHeader)
	s.charge(probe, 100*costHeader)
	s.serve(kept)
	for _, tt := range []struct {
		name string
		want *conn
	}{
		{"what holds the most goes first", greedy},
		{"then the oldest of those that hold little", silent},
		{"then the next, though it holds a little more", probe},
		{"and last the one that was served last", kept},
	} {
		if tt.want.element == nil {
			t.Fatalf("%s: gone before its turn", tt.name)
		}
		need := budget - s.cost + 1
		s.cost += need
		s.charge(tt.want, 0)
		s.cost -= need
		if tt.want.element != nil {
			t.Errorf("%s: still there", tt.name)
		}
	}
	if s.list.Len() != 0 || s.cost != 0 {
		t.Errorf("%d connections and %d bytes are left", s.list.Len(), s.cost)
	}
}

func TestAHeaderIsChargedForUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	s := newConns(false)
	c := s.open(t)
	s.charge(c, 1000*costHeader)
	s.serve(c)
	if c.cost != costConn || s.cost != costConn {
		t.Errorf("an idle connection is charged %d of %d, want %d", c.cost, s.cost, costConn)
	}
	s.note(c, http.StateClosed)
	if s.cost != 0 {
		t.Errorf("%d bytes are charged to nobody", s.cost)
	}
}

func TestHTTP2IsChargedForAndSoIsEachOfItsRequests(t *testing.T) {
	t.Parallel()
	s := newConns(false)
	c := s.open(t)
	s.note(c, http.StateActive) // as net/http does once it has read the preface
	s.note(c, http.StateIdle)
	idle := s.cost
	if idle < costConn+costHTTP2 {
		t.Errorf("an idle connection is charged %d, want %d and more", idle, costConn+costHTTP2)
	}
	s.begin(c)
	s.begin(c)
	if s.cost != idle+2*costStream {
		t.Errorf("two requests are charged %d, want %d", s.cost-idle, 2*costStream)
	}
	s.end(c)
	s.end(c)
	if s.cost != idle {
		t.Errorf("charged %d after the requests, want %d", s.cost, idle)
	}
}
