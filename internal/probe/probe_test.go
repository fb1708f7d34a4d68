package probe

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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

func TestACredentialGoesToTheRightServerOnly(t *testing.T) {
	t.Parallel()
	var got http.Header // of the last request that reached the server
	newServer := func() *httptest.Server {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header }))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(srv.Close)
		return srv
	}
	plain, locked := newServer(), newServer()
	plain.Start()
	locked.StartTLS()
	// Where another server would have taken the place of the configured one,
	// its certificate is the same but for a byte of the signature.
	pin := locked.Certificate().Raw
	other := slices.Clone(pin)
	other[len(other)-1] ^= 1
	for _, tt := range []struct {
		name string
		url  string
		addr string
		pin  []byte
		ok   bool
		line string // in the line
	}{
		{"plain text", plain.URL, "", nil, true, "200 OK"},
		{"the pinned certificate, whatever its name", "https://localhost/", locked.Listener.Addr().String(), pin, true, "200 OK"},
		{"another certificate than the pinned one", "https://localhost/", locked.Listener.Addr().String(), other, false, "another certificate than the configured one"},
		{"a part of the pinned certificate", "https://localhost/", locked.Listener.Addr().String(), pin[:100], false, "another certificate than the configured one"},
		{"a certificate that the system's roots do not know", locked.URL, "", nil, false, "failed to verify certificate"},
		{"no TLS where it must be", "https://localhost/", plain.Listener.Addr().String(), pin, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got = nil
			header := http.Header{"Authorization": {"Bearer s3cret"}, "X-Secret-Key": {"s3cret"}}
			ok, line := Probe{URL: tt.url, Addr: tt.addr, Pin: string(tt.pin), Header: header, Timeout: 10 * time.Second}.Do(t.Context())
			if ok != tt.ok || !strings.Contains(line, tt.line) {
				t.Errorf("got %v %q, want %v and %q in it", ok, line, tt.ok, tt.line)
			}
			if !tt.ok && got != nil {
				t.Errorf("the server was sent %v", got)
			}
			if tt.ok && (got.Get("Authorization") != "Bearer s3cret" || got.Get("X-Secret-Key") != "s3cret") {
				t.Errorf("the server was sent %v", got)
			}
			if strings.Contains(line, "s3cret") {
				t.Errorf("the line tells the secret: %q", line)
			}
		})
	}
}
