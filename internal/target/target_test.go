package target

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain makes a nameserver that knows no name, and is silent about slow.example.
func TestMain(m *testing.M) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		query := make([]byte, 512)
		for {
			n, client, err := server.ReadFrom(query)
			if err != nil {
				return
			}
			if !bytes.Contains(query[:n], []byte("\x04slow")) {
				query[2], query[3] = 0x81, 0x83 // an answer: NXDOMAIN
				server.WriteTo(query[:n], client)
			}
		}
	}()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	os.Exit(m.Run())
}

func parse(t testing.TB, targets ...string) (urls []*url.URL) {
	t.Helper()
	for _, s := range targets {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, u)
	}
	return urls
}

// one returns why a single check of target fails.
func one(t testing.TB, target string, timeout time.Duration) error {
	t.Helper()
	w := New(parse(t, target), time.Hour, timeout, slog.New(slog.DiscardHandler))
	return w.check(t.Context(), w.targets[0])
}

// tcp listens and calls serve with every connection.
func tcp(t testing.TB, network, address string, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
	return l
}

func gone(c net.Conn) { io.Copy(io.Discard, c) } // until the client leaves

func TestWhatIsUpAndWhatIsDown(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		if r.URL.Path == "/followed" {
			followed.Store(true)
		}
		w.Header().Set("Location", "/followed")
		w.WriteHeader(code)
	})
	plain, secure := httptest.NewServer(web), httptest.NewTLSServer(web)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	accepts := tcp(t, "tcp", "127.0.0.1:0", gone).Addr().String()
	closed := tcp(t, "tcp", "127.0.0.1:0", gone)
	closed.Close()
	socket := filepath.Join(t.TempDir(), "s")
	tcp(t, "unix", socket, gone)
	for _, tt := range []struct {
		name, target string
		reason       string // empty if it is up
	}{
		{"accepts a connection", "tcp://" + accepts, ""},
		{"refuses a connection", "tcp://" + closed.Addr().String(), "connection refused"},
		{"a host that has no address", "tcp://nowhere.invalid:1", "nowhere.invalid"},
		{"a socket", "unix://" + socket, ""},
		{"no socket", "unix://" + socket + "2", "no such file"},
		{"200", plain.URL + "/200", ""},
		{"399", plain.URL + "/399", ""},
		{"400", plain.URL + "/400", "answered 400"},
		{"503", plain.URL + "/503", "answered 503"},
		{"a redirect is an answer", plain.URL + "/302", ""},
		{"a certificate that nobody signed", secure.URL + "/200", ""},
		{"TLS asked without TLS", strings.Replace(secure.URL, "https", "http", 1) + "/200", "answered 400"},
		{"no TLS asked with TLS", strings.Replace(plain.URL, "http", "https", 1) + "/200", "first record does not look like a TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			switch err := one(t, tt.target, 10*time.Second); {
			case tt.reason == "" && err != nil:
				t.Error(err)
			case tt.reason != "" && (err == nil || !strings.Contains(err.Error(), tt.reason)):
				t.Errorf("got %v, want %q in it", err, tt.reason)
			}
		})
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

func TestNoTargetHoldsACheckForLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	endless := func(header string, chunk []byte, pause bool) func(net.Conn) {
		return func(c net.Conn) {
			c.Read(make([]byte, 1<<10)) // the client takes no answer before its request
			io.WriteString(c, header)
			for {
				if pause {
					select {
					case <-time.After(10 * time.Millisecond):
					case <-t.Context().Done():
						return
					}
				}
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
		up    bool
	}{
		{"accepts and never answers", gone, false},
		{"drips its header", endless("HTTP/1.1 200 OK\r\n", []byte("X: y\r\n"), true), false},
		{"drips its body", endless("HTTP/1.1 200 OK\r\n\r\n", []byte("x"), true), true},
		{"sends 10 GiB", endless("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n", make([]byte, 64<<10), false), true},
		{"sends a header without end", endless("HTTP/1.1 200 OK\r\n", bytes.Repeat([]byte("X: y\r\n"), 100), false), false},
		{"keeps saying that it will answer", endless("", []byte("HTTP/1.1 103 Early Hints\r\n\r\n"), true), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := tcp(t, "tcp", "127.0.0.1:0", tt.serve).Addr().String()
			if err := one(t, "http://"+address, 200*time.Millisecond); (err == nil) != tt.up {
				t.Errorf("got %v; want up: %v", err, tt.up)
			}
		})
	}
}

func TestTenThousandChecksLeaveNothingBehind(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells there of peers that speak first
	defer log.SetOutput(os.Stderr)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(fds)
	}
	good := httptest.NewServer(http.NotFoundHandler())
	defer good.Close()
	down := tcp(t, "tcp", "127.0.0.1:0", gone)
	down.Close()
	banner := tcp(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") })
	w := New(parse(t, good.URL, "tcp://"+good.Listener.Addr().String(), "tcp://"+down.Addr().String(),
		"http://"+banner.Addr().String(), "unix:///nowhere"), time.Hour, time.Second, slog.New(slog.DiscardHandler))
	goroutines, fds := runtime.NumGoroutine(), open()
	for range 2000 {
		for _, target := range w.targets {
			w.check(t.Context(), target)
		}
	}
	good.CloseClientConnections()
	for runtime.NumGoroutine() > goroutines || open() > fds { // until the last have gone, or the test times out
		runtime.Gosched()
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for want, counts := range map[string][][2]int32{ // unchecked, down
		Healthy:   {{0, 0}},
		Starting:  {{1, 0}, {2, 0}},
		Unhealthy: {{0, 1}, {1, 1}}, // though the other is not checked yet
	} {
		for _, c := range counts {
			w := New(nil, time.Hour, time.Second, nil)
			w.unchecked.Store(c[0])
			w.down.Store(c[1])
			if got := w.Verdict(); got != want {
				t.Errorf("%d unchecked, %d down: %s, want %s", c[0], c[1], got, want)
			}
		}
	}
}

// scripted watches one target whose checks end as script says, and returns the
// log, and when each check was.
func scripted(t *testing.T, interval time.Duration, script ...error) (log string, at []time.Duration) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := New(parse(t, "http://a/b?s3cret"), interval, time.Second, slog.New(slog.NewTextHandler(&out, nil)))
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		defer srv.Listener.Close()
		begun := time.Now()
		w.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			at = append(at, time.Since(begun))
			if len(at) > len(script) {
				cancel() // broken off by the end of healthd, and so no change
				return nil, io.EOF
			}
			if err := script[len(at)-1]; err != nil {
				return nil, err
			}
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				there.Read(make([]byte, 1<<10))
				io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}()
			return here, nil
		}
		if w.Verdict() != Starting {
			t.Errorf("before the first check the verdict is %s", w.Verdict())
		}
		w.Watch(ctx)
		want := Healthy
		if script[len(script)-1] != nil {
			want = Unhealthy
		}
		if got := w.Verdict(); got != want {
			t.Errorf("in the end the verdict is %s, want %s", got, want)
		}
	})
	if strings.Contains(out.String(), "s3cret") {
		t.Error("the log holds the query")
	}
	return out.String(), at
}

func TestAChangeIsLoggedOnceWithItsReason(t *testing.T) {
	t.Parallel()
	log, _ := scripted(t, 5*time.Second, nil, nil, io.EOF, io.EOF, io.EOF, nil, nil)
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], `msg="target is down" target=http://a/b reason=EOF`) ||
		!strings.Contains(lines[2], `msg="target is up" target=http://a/b`) {
		t.Errorf("log is %q", lines)
	}
}

func TestOneLostCheckTakesNothingOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		interval time.Duration
		script   []error
		down     int           // lines that tell that it is down
		recheck  time.Duration // between the first failure and the next check; not asked if 0
	}{
		{"one of a target that is up", 5 * time.Second, []error{nil, io.EOF, nil, nil, io.EOF, nil}, 0, time.Second},
		{"two of it", 5 * time.Second, []error{nil, io.EOF, io.EOF, nil}, 1, time.Second},
		{"two of it, with a short interval", 200 * time.Millisecond, []error{nil, io.EOF, io.EOF}, 1, 200 * time.Millisecond},
		{"the first of all", 5 * time.Second, []error{io.EOF, nil}, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log, at := scripted(t, tt.interval, tt.script...)
			if got := strings.Count(log, "target is down"); got != tt.down {
				t.Errorf("down %d times, want %d: %s", got, tt.down, log)
			}
			if tt.recheck > 0 && at[2]-at[1] != tt.recheck {
				t.Errorf("looked at again after %v, want %v", at[2]-at[1], tt.recheck)
			}
		})
	}
}

// A Unix socket's full backlog refuses with EAGAIN at once.
func TestAFullBacklogIsTriedAgainWithinTheTimeout(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for {
		c, err := net.Dial("unix", socket)
		if err != nil {
			break // full
		}
		defer c.Close()
	}
	if err := one(t, "unix://"+socket, 100*time.Millisecond); err == nil || err.Error() != "no answer within 100ms" {
		t.Errorf("full all the while: %v", err)
	}
	checked := make(chan error)
	go func() { checked <- one(t, "unix://"+socket, 10*time.Second) }()
	select {
	case err := <-checked:
		t.Fatalf("before there is room: %v", err)
	case <-time.After(3 * retry):
	}
	for range 2 {
		if c, _, err := syscall.Accept(fd); err == nil {
			defer syscall.Close(c)
		}
	}
	if err := <-checked; err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

func TestANameThatIsNotResolvedInTimeIsNamed(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"tcp://slow.example:5432", "http://slow.example/"} {
		if err := one(t, target, 100*time.Millisecond); err == nil || err.Error() != "the name slow.example could not be resolved within 100ms" {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestATargetSeesOneCheckInAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const interval, rounds = 5 * time.Second, 100
		var checks [3]int
		var seconds []time.Duration // when the first target had its second check
		start := time.Now()
		w := New(parse(t, "http://0.invalid", "http://1.invalid", "http://2.invalid"), interval, time.Second, slog.New(slog.DiscardHandler))
		var mu sync.Mutex
		w.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			i := int(address[0] - '0')
			if checks[i]++; checks[i] == 2 {
				seconds = append(seconds, time.Since(start))
			}
			return nil, io.EOF
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Watch(ctx); close(done) }()
		synctest.Wait()
		mu.Lock()
		if checks != [3]int{1, 1, 1} {
			t.Errorf("at once: %v checks, want one of each target", checks)
		}
		mu.Unlock()
		for range 10000 { // as hard as it may be asked
			w.Verdict()
		}
		time.Sleep(rounds*interval - time.Nanosecond) // the fake clock's
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i, n := range checks {
			if n < rounds || n > rounds+1 {
				t.Errorf("target %d saw %d checks in %d intervals", i, n, rounds)
			}
		}
		if seconds[0] == seconds[1] && seconds[1] == seconds[2] {
			t.Errorf("all second checks at %v: not spread", seconds[0])
		}
		cancel()
		<-done
	})
}

func TestASocketThatIsReplacedIsFoundAgain(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	for round := range 3 {
		l := tcp(t, "unix", socket, gone)
		if err := one(t, "unix://"+socket, 10*time.Second); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		l.Close()
		if err := one(t, "unix://"+socket, 10*time.Second); err == nil {
			t.Errorf("round %d: up without a listener", round)
		}
	}
}

func TestHealthdSendsNoCredentialAndSaysWhoItIs(t *testing.T) {
	t.Parallel()
	var header http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { header = r.Header }))
	t.Cleanup(srv.Close)
	if err := one(t, srv.URL, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if len(header) != 2 || header.Get("User-Agent") != "healthd" || header.Get("Connection") != "close" {
		t.Errorf("sent %v", header)
	}
}
