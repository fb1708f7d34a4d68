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

	"example.com/healthd/internal/target"
)

// serving and leaving are health handlers before and after SIGTERM.
func serving() *health { return &health{verdict: func() string { return target.Healthy }} }

func leaving() *health {
	h := serving()
	h.draining.Store(true)
	return h
}

// unlocked returns the handler of every path.
func unlocked(h *health) http.Handler {
	return routes(nil, h, nil, slog.New(slog.DiscardHandler))
}

func TestHealthAnswersToTheByte(t *testing.T) {
	t.Parallel()
	down := func(status string) *health { return &health{verdict: func() string { return status }} }
	for _, tt := range []struct {
		name   string
		health *health
		method string
		code   int
		length string
		body   string
	}{
		{"GET while serving", serving(), "GET", 200, "20", `{"status":"healthy"}`},
		{"HEAD has the headers of GET and no body", serving(), "HEAD", 200, "20", ""},
		{"GET while draining", leaving(), "GET", 503, "21", `{"status":"draining"}`},
		{"HEAD while draining", leaving(), "HEAD", 503, "21", ""},
		{"GET while a target is down", down(target.Unhealthy), "GET", 503, "22", `{"status":"unhealthy"}`},
		{"GET before a target was checked", down(target.Starting), "GET", 503, "21", `{"status":"starting"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(unlocked(tt.health))
			defer srv.Close()
			req, err := http.NewRequest(tt.method, srv.URL+"/health?a=b;c", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.code || string(body) != tt.body {
				t.Errorf("got %d %q, %v; want %d %q", resp.StatusCode, body, err, tt.code, tt.body)
			}
			want := map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Content-Length": tt.length}
			for name, value := range want {
				if got := resp.Header.Values(name); len(got) != 1 || got[0] != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			if resp.Header.Del("Date"); len(resp.Header) != len(want) {
				t.Errorf("headers %v, want only %v and Date", resp.Header, want)
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
		{"GET", "//health", 404, ""}, // and no redirect, which HAProxy takes for healthy
		{"GET", "/./health", 404, ""},
		{"GET", "/x/../health", 404, ""},
		{"GET", "/health/..", 404, ""},
		{"GET", "/Health", 404, ""},
		{"GET", "/healthz", 404, ""},
		{"POST", "/token", 404, ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			for _, h := range []*health{serving(), leaving()} {
				w := httptest.NewRecorder()
				unlocked(h).ServeHTTP(w, httptest.NewRequest(tt.method, "http://x"+tt.path, nil))
				if w.Code != tt.code || w.Header().Get("Allow") != tt.allow {
					t.Errorf("got %d, Allow %q; want %d, %q", w.Code, w.Header().Get("Allow"), tt.code, tt.allow)
				}
			}
		})
	}
}

func TestAnswersStayWholeWhileTheStatusFlips(t *testing.T) {
	t.Parallel()
	h := serving()
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
