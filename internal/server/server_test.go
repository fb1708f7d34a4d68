package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary a server when it starts itself: signals are
// for a process of its own.
func TestMain(m *testing.M) {
	if drain, err := time.ParseDuration(os.Getenv("TEST_SERVER_DRAIN")); err == nil {
		os.Exit(serveForTest(drain))
	}
	os.Exit(m.Run())
}

func serveForTest(drain time.Duration) int {
	var leaving atomic.Bool
	s := Server{
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Drain:    drain,
		Draining: &leaving,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/never" {
				fmt.Fprintln(os.Stderr, "in flight")
				select {}
			}
			if leaving.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}),
	}
	if err := s.Run(context.Background(), "127.0.0.1:0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a server in a process of its own.
type process struct {
	*exec.Cmd
	addr string
	log  *bufio.Scanner
}

func startProcess(t *testing.T, drain string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_SERVER_DRAIN="+drain)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p := &process{Cmd: cmd, log: bufio.NewScanner(stderr)}
	p.addr = p.until(t, "addr=")
	return p
}

// until reads the log up to a line that holds mark, and returns what follows it.
func (p *process) until(t *testing.T, mark string) string {
	t.Helper()
	for p.log.Scan() {
		if _, rest, found := strings.Cut(p.log.Text(), mark); found {
			return rest
		}
	}
	t.Fatalf("the process ended before it logged %q", mark)
	return ""
}

// signal sends sig and waits for the log to tell of it.
func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	p.until(t, "msg=draining")
}

// exit waits for the end and returns the exit code, -1 if a signal ended it.
func (p *process) exit() int {
	defer time.AfterFunc(30*time.Second, func() { p.Process.Signal(syscall.SIGQUIT) }).Stop()
	for p.log.Scan() {
	}
	p.Wait()
	return p.ProcessState.ExitCode()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// answer reads one response and its body.
func answer(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return resp
}

// closed fails unless the server has ended the connection.
func closed(t *testing.T, r *bufio.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v; want the end of the connection", rest, err)
	}
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestSIGTERMServesOnForTheDrainThenLeaves(t *testing.T) {
	t.Parallel()
	const drain = time.Second
	p := startProcess(t, drain.String())
	pooled := dial(t, p.addr)
	r := bufio.NewReader(pooled)
	send(t, pooled, get)
	if resp := answer(t, r); resp.StatusCode != 200 || resp.Close {
		t.Fatalf("before the signal: %d, close %v", resp.StatusCode, resp.Close)
	}
	start := time.Now()
	p.signal(t, syscall.SIGTERM)
	for name, c := range map[string]net.Conn{"a pooled connection": pooled, "a fresh connection": dial(t, p.addr)} {
		send(t, c, get)
		r := bufio.NewReader(c)
		if resp := answer(t, r); resp.StatusCode != 503 || !resp.Close {
			t.Errorf("%s while draining: %d, close %v; want 503, true", name, resp.StatusCode, resp.Close)
		}
		closed(t, r)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(start); took < drain {
		t.Errorf("left after %v, before the drain of %v ended", took, drain)
	}
}

func TestARequestThatOutlivesTheDrainIsAnswered(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, before := range []string{"", get} {
			t.Run(fmt.Sprintf("%v after %q", sig, before), func(t *testing.T) {
				t.Parallel()
				p := startProcess(t, "0s")
				c := dial(t, p.addr)
				r := bufio.NewReader(c)
				if before != "" {
					send(t, c, before)
					answer(t, r)
				}
				send(t, c, get[:20])
				// A second connection that is answered shows that the server
				// has had time to read what the first one sent.
				other := dial(t, p.addr)
				send(t, other, get)
				answer(t, bufio.NewReader(other))
				p.signal(t, sig)
				for { // until the port is closed
					c, err := net.Dial("tcp", p.addr)
					if err != nil {
						break
					}
					c.Close()
				}
				if before == "" { // on a kept connection it must come before Shutdown, 100 ms later
					<-time.After(300 * time.Millisecond)
				}
				send(t, c, get[20:])
				if resp := answer(t, r); resp.StatusCode != 503 || !resp.Close {
					t.Errorf("got %d, close %v; want 503, true", resp.StatusCode, resp.Close)
				}
				closed(t, r)
				if code := p.exit(); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
			})
		}
	}
}

func TestWhatIsInFlightAtTheEndGetsTenSecondsWithAllElse(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "0s")
	dial(t, p.addr) // for what it may send SIGTERM waits, too
	send(t, dial(t, p.addr), "GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
	p.until(t, "in flight")
	start := time.Now()
	p.signal(t, syscall.SIGTERM)
	p.until(t, "requests cut off")
	if took := time.Since(start); took < 10*time.Second || took > 14*time.Second {
		t.Errorf("cut off after %v, want 10 s", took)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestSIGINTWaitsForNobodyWhoHasSentNothing(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "1h")
	dial(t, p.addr)
	start := time.Now()
	p.signal(t, syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(start); took >= 5*time.Second {
		t.Errorf("took %v: waited for a silent connection", took)
	}
}

func TestASecondSIGTERMChangesNothingAndSIGINTEndsTheProcess(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "1h")
	p.signal(t, syscall.SIGTERM)
	for range 3 {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		c := dial(t, p.addr)
		send(t, c, get)
		if resp := answer(t, bufio.NewReader(c)); resp.StatusCode != 503 {
			t.Errorf("after another SIGTERM: %d, want 503", resp.StatusCode)
		}
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

func TestHTTP2ClientsAreToldToGo(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "1s")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	request := func() *http.Response {
		resp, err := client.Get("http://" + p.addr)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if resp := request(); resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Fatalf("got %d over HTTP/%d", resp.StatusCode, resp.ProtoMajor)
	}
	p.signal(t, syscall.SIGTERM)
	if resp := request(); resp.StatusCode != 503 {
		t.Errorf("while draining: %d, want 503", resp.StatusCode)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
