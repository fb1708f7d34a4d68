//go:build e2e

package e2e

import (
	"bufio"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
)

// curl returns the answer as curl prints it.
func curl(t *testing.T, args ...string) (status string, header textproto.MIMEHeader, body string) {
	t.Helper()
	out := output(t, nil, "curl", append([]string{"-sS", "-i", "--max-time", "10"}, args...)...)
	head, body, found := strings.Cut(out, "\r\n\r\n")
	status, fields, _ := strings.Cut(head, "\r\n")
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(fields + "\r\n\r\n"))).ReadMIMEHeader()
	if !found || err != nil {
		t.Fatalf("curl %q printed %q: %v", args, out, err)
	}
	return strings.TrimSpace(status), header, body
}

func TestCurlGetsTheAnswerOfTheContract(t *testing.T) {
	serving := start(t, nil)
	leaving := start(t, nil, "-drain", "1m")
	leaving.signal(t, syscall.SIGTERM)
	eventually(t, "it says that it drains", func() bool { return strings.Contains(leaving.stderr.String(), "msg=draining") })

	const (
		plain = "text/plain; charset=utf-8"
		json  = "application/json"
	)
	for _, row := range []struct {
		name string
		of   *instance
		args []string // before the URL
		path string

		status string
		header map[string]string // "" wants none
		body   string
	}{
		{"HTTP/1.1", serving, []string{"--http1.1"}, "/health",
			"HTTP/1.1 200 OK", map[string]string{"Content-Type": json, "Cache-Control": "no-store", "Content-Length": "20", "Connection": ""}, healthy},
		{"HTTP/1.0 without Host", serving, []string{"--http1.0", "-H", "Host:"}, "/health",
			"HTTP/1.0 200 OK", map[string]string{"Content-Type": json, "Cache-Control": "no-store", "Content-Length": "20"}, healthy},
		{"HTTP/2 with prior knowledge", serving, []string{"--http2-prior-knowledge"}, "/health",
			"HTTP/2 200", map[string]string{"Content-Type": json, "Cache-Control": "no-store", "Content-Length": "20"}, healthy},
		{"an upgrade to HTTP/2 is declined", serving, []string{"--http2"}, "/health",
			"HTTP/1.1 200 OK", map[string]string{"Upgrade": ""}, healthy},
		{"a query changes nothing", serving, nil, "/health?verbose=1&x",
			"HTTP/1.1 200 OK", map[string]string{"Content-Length": "20"}, healthy},
		{"HEAD has the headers and no body", serving, []string{"-I"}, "/health",
			"HTTP/1.1 200 OK", map[string]string{"Content-Type": json, "Cache-Control": "no-store", "Content-Length": "20"}, ""},
		{"HEAD over HTTP/2", serving, []string{"-I", "--http2-prior-knowledge"}, "/health",
			"HTTP/2 200", map[string]string{"Content-Length": "20"}, ""},
		{"POST is refused", serving, []string{"-X", "POST"}, "/health",
			"HTTP/1.1 405 Method Not Allowed", map[string]string{"Allow": "GET, HEAD", "Content-Type": plain}, "Method Not Allowed\n"},
		{"a body is not waited for", serving, []string{"-d", "x=1"}, "/health",
			"HTTP/1.1 405 Method Not Allowed", map[string]string{"Allow": "GET, HEAD", "Connection": "close"}, "Method Not Allowed\n"},
		{"another path is not found", serving, nil, "/health/",
			"HTTP/1.1 404 Not Found", map[string]string{"Content-Type": plain}, "404 page not found\n"},
		{"draining", leaving, []string{"--http1.1"}, "/health",
			"HTTP/1.1 503 Service Unavailable", map[string]string{"Content-Type": json, "Cache-Control": "no-store", "Content-Length": "21", "Connection": "close"}, draining},
		{"draining, HTTP/1.0", leaving, []string{"--http1.0"}, "/health",
			"HTTP/1.0 503 Service Unavailable", map[string]string{"Content-Length": "21"}, draining},
		{"draining, HTTP/2", leaving, []string{"--http2-prior-knowledge"}, "/health",
			"HTTP/2 503", map[string]string{"Content-Length": "21", "Connection": ""}, draining},
		{"draining, HEAD", leaving, []string{"-I"}, "/health",
			"HTTP/1.1 503 Service Unavailable", map[string]string{"Content-Length": "21", "Connection": "close"}, ""},
		{"draining, any path", leaving, nil, "/",
			"HTTP/1.1 404 Not Found", map[string]string{"Connection": "close"}, "404 page not found\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, header, body := curl(t, append(row.args, "http://"+row.of.addr+row.path)...)
			if status != row.status {
				t.Errorf("status %q, want %q", status, row.status)
			}
			for name, want := range row.header {
				if got := header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if body != row.body {
				t.Errorf("body %q, want %q", body, row.body)
			}
		})
	}
}

// HTTP/1.1 only: curl 7.88 cannot use a prior-knowledge connection twice.
func TestCurlKeepsItsConnectionUntilTheDrain(t *testing.T) {
	i := start(t, nil, "-drain", "1m")
	// The number of connections that each of three requests had to make.
	connects := func() string {
		url := "http://" + i.addr + "/health"
		return output(t, nil, "curl", "-sS", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null",
			"-w", "%{num_connects} ", url, url, url)
	}
	if got := connects(); got != "1 0 0 " {
		t.Errorf("connects: %s, want one for all", got)
	}
	i.signal(t, syscall.SIGTERM)
	eventually(t, "it drains", func() bool { return get(t, i.addr).body == draining })
	if got := connects(); got != "1 1 1 " {
		t.Errorf("connects while draining: %s, want one for each", got)
	}
}
