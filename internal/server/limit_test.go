package server

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// startServer runs s in this process and returns its address. It ends with t.
func startServer(t *testing.T, s *Server) string {
	t.Helper()
	s.Draining = new(atomic.Bool)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	s.Log = slog.New(slog.NewTextHandler(w, nil))
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, "127.0.0.1:0")
		w.Close()
	}()
	lines := bufio.NewReader(r)
	line, err := lines.ReadString('\n')
	_, addr, found := strings.Cut(strings.TrimSpace(line), "addr=")
	if err != nil || !found {
		t.Fatalf("got %q, %v; want a line with the address", line, err)
	}
	go io.Copy(io.Discard, lines)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return addr
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, r.Method)
})

func TestOneConnectionManyWays(t *testing.T) {
	t.Parallel()
	addr := startServer(t, &Server{Handler: ok})
	for _, tt := range []struct {
		name   string
		send   string
		codes  []int // the answers, in order
		closes bool  // after the last
	}{
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", []int{200}, true},
		{"HTTP/1.0 keeps no connection", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", []int{200}, true},
		{"HTTP/1.1 without Host", "GET / HTTP/1.1\r\n\r\n", []int{400}, true},
		{"keep-alive", get, []int{200}, false},
		{"pipelined", get + get + get, []int{200, 200, 200}, false},
		{"the client closes", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []int{200}, true},
		{"a body that never comes", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", []int{200}, true},
		{"a huge body that never comes", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n", []int{200}, true},
		{"a body, and a request hidden in it", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 38\r\n\r\n" + get, []int{200}, true},
		{"an empty body is none", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", []int{200}, false},
		{"chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", []int{200}, true},
		{"Content-Length beside Transfer-Encoding", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get, []int{200}, true},
		{"the same in HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{200}, true},
		{"a body that waits to be asked for", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", []int{200}, true},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", []int{400}, true},
		{"an unknown coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", []int{501}, true},
		{"an unknown expectation", "GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", []int{417}, true},
		{"a header of 8 KiB", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 8<<10) + "\r\n\r\n", []int{200}, false},
		{"a header of 13 KiB", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 13<<10) + "\r\n\r\n", []int{431}, true},
		{"no HTTP at all", "\x16\x03\x01\x00 this is not HTTP\r\n\r\n", []int{400}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, addr)
			send(t, c, tt.send)
			r := bufio.NewReader(c)
			var last *http.Response
			for i, code := range tt.codes {
				last = answer(t, r)
				if last.StatusCode != code {
					t.Fatalf("answer %d is %d, want %d", i, last.StatusCode, code)
				}
			}
			if last.Close != tt.closes {
				t.Errorf("the last answer says close: %v, want %v", last.Close, tt.closes)
			}
			if tt.closes {
				closed(t, r)
				return
			}
			send(t, c, get)
			answer(t, r)
		})
	}
}

// It has no length, and would end half a second later.
func TestARefusalWithoutALengthEndsAtOnce(t *testing.T) {
	t.Parallel()
	addr := startServer(t, &Server{Handler: ok})
	fastest := time.Hour
	for range 5 {
		c := dial(t, addr)
		send(t, c, "GET / HTTP/1.1\r\nX: "+strings.Repeat("a", 13<<10)+"\r\n\r\n")
		begun := time.Now()
		if resp := answer(t, bufio.NewReader(c)); resp.StatusCode != 431 || resp.ContentLength >= 0 {
			t.Fatalf("got %d with a length of %d", resp.StatusCode, resp.ContentLength)
		}
		fastest = min(fastest, time.Since(begun))
	}
	if fastest > 250*time.Millisecond {
		t.Errorf("it took %v", fastest)
	}
}

func TestOPTIONSOfTheServerReachesTheHandler(t *testing.T) {
	t.Parallel()
	addr := startServer(t, &Server{Handler: http.NewServeMux()})
	c := dial(t, addr)
	send(t, c, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp := answer(t, bufio.NewReader(c)); resp.StatusCode != 400 {
		t.Errorf("got %d, want ServeMux's own", resp.StatusCode)
	}
}

func TestACrowdKeepsNoConnection(t *testing.T) {
	t.Parallel()
	addr := startServer(t, &Server{Handler: ok})
	first := dial(t, addr)
	r := bufio.NewReader(first)
	send(t, first, get)
	if answer(t, r).Close {
		t.Fatal("alone, and told to close")
	}
	for range 128 / 2 {
		dial(t, addr)
	}
	// The last goes first: they are accepted in order, so that all are counted
	// once it is answered.
	for i, c := range []net.Conn{dial(t, addr), first} {
		send(t, c, get)
		if !answer(t, bufio.NewReader(c)).Close {
			t.Errorf("request %d to a crowd may keep its connection", i)
		}
	}
}

func TestForOneMoreTheConnectionWhoseStateChangedLongestAgoIsClosed(t *testing.T) {
	t.Parallel()
	s := &conns{max: 2}
	pipe := func() *conn {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dial(t, l.Addr().String())
		s.Listener = l
		c, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.track(c, http.StateNew)
		return c.(*conn)
	}
	first, second := pipe(), pipe()
	s.track(first, http.StateActive)
	third := pipe()
	for name, tt := range map[string]struct {
		c    *conn
		open bool
	}{"the first, which has changed": {first, true}, "the second": {second, false}, "the third": {third, true}} {
		if err := tt.c.SetDeadline(time.Time{}); (err == nil) != tt.open {
			t.Errorf("%s: open should be %v: %v", name, tt.open, err)
		}
	}
	s.track(second, http.StateClosed) // as net/http says of the evicted one, later
	if s.list.Len() != 2 {
		t.Errorf("%d connections in the set, want 2", s.list.Len())
	}
	if s.track(third, http.StateClosed); s.list.Len() != 1 {
		t.Errorf("%d connections in the set after one has closed, want 1", s.list.Len())
	}
}

func TestVerboseLogsARequestWithoutItsQuery(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := logged(slog.New(slog.NewTextHandler(&log, nil)), http.NotFoundHandler())
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/a?s3cret", nil))
	for _, want := range []string{"msg=request", "method=GET", "path=/a", "status=404"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %q", want, log.String())
		}
	}
	if strings.Contains(log.String(), "s3cret") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log is %q", log.String())
	}
}
