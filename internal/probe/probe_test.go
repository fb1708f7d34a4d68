package probe

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestTheStatusDecides(t *testing.T) {
	t.Parallel()
	redirected := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/target":
			redirected = true
		case "/redirect":
			http.Redirect(w, r, "/target", http.StatusFound)
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"status":"draining"}`)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "part")
		case "/long":
			io.WriteString(w, strings.Repeat("a", 20<<10))
		case "/lines":
			io.WriteString(w, "one\r\ntwo\x1b[31m\n")
		case "/header":
			w.Header().Set("X", strings.Repeat("a", 20<<10))
		case "/drip":
			io.WriteString(w, "part")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/hang":
			<-r.Context().Done()
		}
	}))
	t.Cleanup(srv.Close)
	for _, tt := range []struct {
		path string
		ok   bool
		line string
	}{
		{"/200", true, "200 OK"},
		{"/204", true, "204 No Content"},
		{"/503", false, `{"status":"draining"}`},
		{"/redirect", false, `<a href="/target">Found</a>.`},
		{"/cut", true, "part"},
		{"/drip", true, "part"},
		{"/long", true, strings.Repeat("a", 10<<10)},
		{"/lines", true, "one  two [31m"},
		{"/header", false, "net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 10240 bytes; aborted"},
		{"/hang", false, "no answer within 200ms"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			ok, line := Probe{URL: srv.URL + tt.path, Timeout: 200 * time.Millisecond}.Do(t.Context())
			if ok != tt.ok || line != tt.line {
				t.Errorf("got %v %q, want %v %q", ok, line, tt.ok, tt.line)
			}
		})
	}
	if redirected {
		t.Error("a redirect was followed")
	}
}

func TestAProbeOfNoHTTPServerFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, banner, want string }{
		{"closes at once", "", "EOF"},
		{"speaks another protocol", "SSH-2.0-x\r\n\r\n", "malformed HTTP"},
		{"switches protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 Switching Protocols"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Read(make([]byte, 1<<10))
					fmt.Fprint(c, tt.banner)
					c.Close()
				}
			}()
			ok, line := Probe{URL: "http://localhost/", Addr: l.Addr().String(), Timeout: 5 * time.Second}.Do(t.Context())
			if ok || !strings.Contains(line, tt.want) {
				t.Errorf("got %v %q, want %q in it", ok, line, tt.want)
			}
		})
	}
}
