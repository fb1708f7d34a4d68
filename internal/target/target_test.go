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
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func parse(targets ...string) (urls []*url.URL) {
	for _, target := range targets {
		u, err := url.Parse(target)
		if err != nil {
			panic(err)
		}
		urls = append(urls, u)
	}
	return urls
}

// one returns why a single check of target fails.
func one(t testing.TB, target string, timeout time.Duration) error {
	t.Helper()
	w := New(parse(target), time.Hour, timeout, slog.New(slog.DiscardHandler))
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

const up = "<nil>" // as the reason why a target is down

func gone(c net.Conn) { io.Copy(io.Discard, c) } // until the client leaves

func TestWhatIsUpAndWhatIsDown(t *testing.T) {
	t.Parallel()
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		// No redirect is followed, and no credential sent.
		if code == 0 || len(r.Header) != 2 || r.UserAgent() != "healthd" || r.Header.Get("Connection") != "close" {
			t.Errorf("asked for %s with %v", r.URL.Path, r.Header)
		}
		w.Header().Set("Location", "/followed")
		w.WriteHeader(code)
	})
	plain, secure := httptest.NewServer(web), httptest.NewTLSServer(web)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	socket := filepath.Join(t.TempDir(), "s")
	tcp(t, "unix", socket, gone)
	for _, tt := range []struct {
		name, target, reason string
	}{
		{"accepts a connection", "tcp://" + plain.Listener.Addr().String(), up},
		{"refuses a connection", "tcp://127.0.0.1:1", "connection refused"},
		{"a socket", "unix://" + socket, up},
		{"no socket", "unix://" + socket + "2", "no such file"},
		{"200", plain.URL + "/200", up},
		{"a redirect is an answer", plain.URL + "/399", up},
		{"400", plain.URL + "/400", "answered 400"},
		{"a certificate that nobody signed", secure.URL + "/200", up},
		{"no TLS asked with TLS", "https://" + plain.Listener.Addr().String(), "does not look like a TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := fmt.Sprint(one(t, tt.target, 10*time.Second)); !strings.Contains(err, tt.reason) {
				t.Errorf("got %s, want %s", err, tt.reason)
			}
		})
	}
}

func TestNoTargetHoldsACheckForLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	endless := func(header, chunk string, pause time.Duration) func(net.Conn) {
		return func(c net.Conn) {
			c.Read(make([]byte, 1<<10)) // the client takes no answer before its request
			_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header)
			for ; err == nil; _, err = io.WriteString(c, chunk) {
				<-time.After(pause)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"accepts and never answers", gone, "no answer within 500ms"},
		{"drips its header", endless("", "X: y\r\n", 10*time.Millisecond), "no answer within 500ms"},
		{"sends a header without end", endless("", strings.Repeat("X: y\r\n", 100), 0), "exceeded 16384 bytes"},
		{"sends 10 GiB", endless("Content-Length: 10737418240\r\n\r\n", strings.Repeat("x", 64<<10), 0), up},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := tcp(t, "tcp", "127.0.0.1:0", tt.serve).Addr().String()
			if err := fmt.Sprint(one(t, "http://"+address, 500*time.Millisecond)); !strings.Contains(err, tt.want) {
				t.Errorf("got %s, want %s", err, tt.want)
			}
		})
	}
}

func TestAThousandChecksLeaveNothingBehind(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells there of peers that speak first
	defer log.SetOutput(os.Stderr)
	good := httptest.NewServer(http.NotFoundHandler())
	defer good.Close()
	banner := tcp(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") })
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(fds)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what is forgotten
	goroutines, fds := runtime.NumGoroutine(), open()
	for range 250 {
		for _, target := range []string{good.URL, "tcp://" + good.Listener.Addr().String(), "http://" + banner.Addr().String(), "unix:///nowhere"} {
			one(t, target, time.Second)
		}
	}
	good.CloseClientConnections()
	for runtime.NumGoroutine() > goroutines || open() > fds { // until the last have gone, or the test times out
		runtime.Gosched()
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for want, rows := range map[string][][]any{ // nil is not checked yet
		Healthy:   {{}, {Healthy, Healthy}},
		Starting:  {{nil}, {Healthy, nil, Healthy}},
		Unhealthy: {{Healthy, Unhealthy, Healthy}, {nil, Unhealthy}, {Unhealthy, nil}},
	} {
		for _, verdicts := range rows {
			w := New(make([]*url.URL, len(verdicts)), time.Hour, time.Second, nil)
			for i, verdict := range verdicts {
				if verdict != nil {
					w.verdicts[i].Store(verdict)
				}
			}
			if got := w.Verdict(); got != want {
				t.Errorf("%v: %s, want %s", verdicts, got, want)
			}
		}
	}
}

// checks tells why a target that is asked over HTTP is down.
type checks func(target *url.URL) error

func (c checks) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: http.NoBody}, c(r.URL)
}

// scripted watches one target whose checks end as script says, and returns the
// log, and when each check was.
func scripted(t *testing.T, interval time.Duration, script ...error) (log string, at []time.Duration) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := New(parse("http://a/b?s3cret"), interval, time.Second, slog.New(slog.NewTextHandler(&out, nil)))
		begun := time.Now()
		w.transport.RegisterProtocol("http", checks(func(*url.URL) error {
			if at = append(at, time.Since(begun)); len(at) > len(script) {
				cancel() // broken off by the end of healthd, and so no change
				return io.EOF
			}
			return script[len(at)-1]
		}))
		if w.Verdict() != Starting {
			t.Errorf("before the first check the verdict is %s", w.Verdict())
		}
		w.Watch(ctx)
		if up := w.Verdict() == Healthy; up != (script[len(script)-1] == nil) {
			t.Errorf("in the end the verdict is %s", w.Verdict())
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
	case <-time.After(60 * time.Millisecond):
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
	was := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = was })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done() // the nameserver is gone
		return nil, ctx.Err()
	}}
	_, port, _ := net.SplitHostPort(tcp(t, "tcp", "127.0.0.1:0", gone).Addr().String())
	for target, want := range map[string]string{
		"tcp://slow.example:5432":  "the name slow.example could not be resolved within 100ms",
		"http://slow.example/":     "the name slow.example could not be resolved within 100ms",
		"http://localhost:" + port: "no answer within 100ms",
	} {
		if err := fmt.Sprint(one(t, target, 100*time.Millisecond)); err != want {
			t.Errorf("%s: got %s, want %s", target, err, want)
		}
	}
}

func TestATargetSeesOneCheckInAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const interval, rounds = 5 * time.Second, 100
		w := New(parse("http://0", "http://1", "http://2"), interval, time.Second, slog.New(slog.DiscardHandler))
		var seen [3][]time.Duration
		start := time.Now()
		w.transport.RegisterProtocol("http", checks(func(target *url.URL) error {
			i := target.Host[0] - '0'
			seen[i] = append(seen[i], time.Since(start))
			return io.EOF
		}))
		go w.Watch(t.Context())
		for range 10000 { // as hard as it may be asked
			w.Verdict()
		}
		time.Sleep(rounds*interval - time.Nanosecond) // the fake clock's
		synctest.Wait()
		for i, at := range seen {
			if len(at) < rounds || len(at) > rounds+1 || at[0] != 0 {
				t.Errorf("target %d saw %d checks in %d intervals, the first after %v", i, len(at), rounds, at[0])
			}
		}
		if seen[0][1] == seen[1][1] && seen[1][1] == seen[2][1] {
			t.Errorf("all second checks after %v: not spread", seen[0][1])
		}
	})
}
