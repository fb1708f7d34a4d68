package main

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/healthd/internal/config"
	"example.com/healthd/internal/target"
)

func healthy() string { return target.Healthy }

// handler is what an unlocked healthd serves.
func handler(h *health) http.Handler {
	handler, _ := routes(config.Config{}, h, slog.New(slog.DiscardHandler))
	return handler
}

func TestHealthAnswersToTheByte(t *testing.T) {
	t.Parallel()
	draining := newHealth(healthy)
	draining.drain()
	for _, tt := range []struct {
		name   string
		health *health
		method string
		code   int
		length string
		body   string
	}{
		{"GET while serving", newHealth(healthy), "GET", 200, "20", `{"status":"healthy"}`},
		{"HEAD has the headers of GET and no body", newHealth(healthy), "HEAD", 200, "20", ""},
		{"GET while draining", draining, "GET", 503, "21", `{"status":"draining"}`},
		{"HEAD while draining", draining, "HEAD", 503, "21", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler(tt.health).ServeHTTP(w, httptest.NewRequest(tt.method, "/health?a=b;c", nil))
			if w.Code != tt.code || w.Body.String() != tt.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.code, tt.body)
			}
			want := map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Content-Length": tt.length}
			for name, value := range want {
				if got := w.Header().Values(name); len(got) != 1 || got[0] != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			if len(w.Header()) != len(want) {
				t.Errorf("headers %v, want only %v", w.Header(), want)
			}
		})
	}
}

func TestOtherMethodsAndPathsAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, path string
		code         int
		allow        string
	}{
		{"POST", "/health", 405, "GET, HEAD"},
		{"PUT", "/health", 405, "GET, HEAD"},
		{"OPTIONS", "/health", 405, "GET, HEAD"},
		{"get", "/health", 405, "GET, HEAD"},
		{"GET", "/", 404, ""},
		{"GET", "/health/", 404, ""},
		{"GET", "/Health", 404, ""},
		{"GET", "/healthz", 404, ""},
		{"POST", "/token", 404, ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler(newHealth(healthy)).ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			if w.Code != tt.code || w.Header().Get("Allow") != tt.allow {
				t.Errorf("got %d, Allow %q; want %d, %q", w.Code, w.Header().Get("Allow"), tt.code, tt.allow)
			}
		})
	}
}

// discard is a ResponseWriter that costs nothing itself.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func TestHealthAllocatesNothing(t *testing.T) {
	h, w, r := newHealth(healthy), discard{http.Header{}}, httptest.NewRequest("GET", "/health", nil)
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("%v allocations a request, want none", n)
	}
}

func BenchmarkHealth(b *testing.B) {
	h, w, r := newHealth(healthy), discard{http.Header{}}, httptest.NewRequest("GET", "/health", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

func TestAnswersStayWholeWhileTheStatusFlips(t *testing.T) {
	t.Parallel()
	h := newHealth(healthy)
	stop := make(chan struct{})
	var flipping, asking sync.WaitGroup
	flipping.Go(func() {
		for on := false; ; on = !on {
			select {
			case <-stop:
				return
			default:
				h.draining.Store(on)
			}
		}
	})
	for range 1000 {
		asking.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
			switch got := w.Body.String(); {
			case w.Code == 200 && got == `{"status":"healthy"}`:
			case w.Code == 503 && got == `{"status":"draining"}`:
			default:
				t.Errorf("got %d %q", w.Code, got)
			}
		})
	}
	asking.Wait()
	close(stop)
	flipping.Wait()
}

// healthd is run, in this process, on a port of the kernel's choosing.
type healthd struct {
	addr string
	stop context.CancelFunc
	code chan int
}

func startHealthd(t *testing.T, env map[string]string, args ...string) *healthd {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	logs, stderr := io.Pipe()
	h := &healthd{stop: cancel, code: make(chan int, 1)}
	go func() {
		args := append([]string{"-addr", "127.0.0.1:0"}, args...)
		getenv := func(k string) string {
			return cmp.Or(env[k], map[string]string{"GOMAXPROCS": "all"}[k]) // this process keeps its own
		}
		h.code <- run(ctx, args, getenv, io.Discard, stderr)
		stderr.Close()
	}()
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		if _, addr, found := strings.Cut(lines.Text(), "msg=listening addr="); found {
			h.addr = addr
			break
		}
	}
	if h.addr == "" {
		t.Fatal("run ended before it listened")
	}
	var rest sync.WaitGroup
	rest.Go(func() { io.Copy(io.Discard, logs) })
	t.Cleanup(func() { cancel(); rest.Wait() })
	return h
}

func TestRunServesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	h := startHealthd(t, nil)
	resp, err := http.Get("http://" + h.addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != `{"status":"healthy"}` {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	h.stop()
	if code := <-h.code; code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestRunEndsWithACodeAndALine(t *testing.T) {
	t.Parallel()
	taken := startHealthd(t, nil).addr
	for _, tt := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // what each must hold; nothing if empty
	}{
		{"help goes to stdout", []string{"-h"}, 0, "HEALTHD_DRAIN", ""},
		{"the probe has the same help", []string{"probe", "-help"}, 0, "HEALTHD_DRAIN", ""},
		{"version", []string{"-version"}, 0, "healthd dev", ""},
		{"a mistake is one line", []string{"-drain", "x", "-addr", "y"}, 2, "", "healthd: "},
		{"a taken port", []string{"-addr", taken}, 1, "", "address already in use"},
		{"a probe that succeeds prints the body", []string{"probe", "-addr", taken}, 0, `{"status":"healthy"}`, ""},
		{"a probe of a URL", []string{"probe", "http://" + taken + "/health?x"}, 0, `{"status":"healthy"}`, ""},
		{"a probe of another path", []string{"probe", "http://" + taken + "/nope"}, 1, "404 page not found", ""},
		{"a probe of nothing", []string{"probe", "-addr", "127.0.0.1:0"}, 1, "connection refused", ""},
		{"a probe of what is no URL", []string{"probe", "localhost:8080"}, 2, "", "healthd: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var stdout, stderr strings.Builder
			code := run(ctx, tt.args, func(string) string { return "" }, &stdout, &stderr)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for name, o := range map[string][2]string{"stdout": {stdout.String(), tt.stdout}, "stderr": {stderr.String(), tt.stderr}} {
				if got, want := o[0], o[1]; !strings.Contains(got, want) || want == "" && got != "" {
					t.Errorf("%s is %q, want %q in it", name, got, want)
				}
			}
			if strings.Count(stderr.String(), "\n") > 1 {
				t.Errorf("stderr is more than one line: %q", stderr.String())
			}
		})
	}
}
