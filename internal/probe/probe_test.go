package probe

import (
	"context"
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
			io.WriteString(w, "one\r\ntwo  2\x1b[31m\x9b32m\n")
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
		code int
		line string
	}{
		{"/200", 0, "200 OK"},
		{"/204", 0, "204 No Content"},
		{"/503", 1, `{"status":"draining"}`},
		{"/redirect", 1, `<a href="/target">Found</a>.`},
		{"/cut", 0, "part"},
		{"/drip", 0, "part"},
		{"/long", 0, strings.Repeat("a", 10<<10)},
		{"/lines", 0, "one two  2 [31m 32m"},
		{"/header", 1, "net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 10240 bytes; aborted"},
		{"/hang", 1, "no answer within 500ms"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			code, line := Probe{URL: srv.URL + tt.path, Timeout: 500 * time.Millisecond}.Do(t.Context())
			if code != tt.code || line != tt.line {
				t.Errorf("got %v %q, want %v %q", code, line, tt.code, tt.line)
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
			code, line := Probe{URL: "http://localhost/", Addr: l.Addr().String(), Timeout: 5 * time.Second}.Do(t.Context())
			if code != 1 || !strings.Contains(line, tt.want) {
				t.Errorf("got %v %q, want %q in it", code, line, tt.want)
			}
		})
	}
}

// The resolver is never answered: the name is what the user must hear of.
func TestANameThatIsNotResolvedInTimeIsNamed(t *testing.T) {
	was := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = was })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	code, line := Probe{URL: "http://slow.example/", Timeout: 100 * time.Millisecond}.Do(t.Context())
	if code != 1 || line != "the name slow.example could not be resolved within 100ms" {
		t.Errorf("got %v %q", code, line)
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
		code int
		line string // in the line
	}{
		{"plain text", plain.URL, "", nil, 0, "200 OK"},
		{"the pinned certificate, whatever its name", "https://localhost/", locked.Listener.Addr().String(), pin, 0, "200 OK"},
		{"another certificate than the pinned one", "https://localhost/", locked.Listener.Addr().String(), other, 1, "another certificate than the configured one"},
		{"a part of the pinned certificate", "https://localhost/", locked.Listener.Addr().String(), pin[:100], 1, "another certificate than the configured one"},
		{"a certificate that the system's roots do not know", locked.URL, "", nil, 1, "failed to verify certificate"},
		{"no TLS where it must be", "https://localhost/", plain.Listener.Addr().String(), pin, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got = nil
			header := http.Header{"Authorization": {"Bearer s3cret"}, "X-Secret-Key": {"s3cret"}}
			code, line := Probe{URL: tt.url, Addr: tt.addr, Pin: string(tt.pin), Header: header, Timeout: 10 * time.Second}.Do(t.Context())
			if code != tt.code || !strings.Contains(line, tt.line) {
				t.Errorf("got %v %q, want %v and %q in it", code, line, tt.code, tt.line)
			}
			if tt.code != 0 && got != nil {
				t.Errorf("the server was sent %v", got)
			}
			if tt.code == 0 && (got.Get("Authorization") != "Bearer s3cret" || got.Get("X-Secret-Key") != "s3cret") {
				t.Errorf("the server was sent %v", got)
			}
			if strings.Contains(line, "s3cret") {
				t.Errorf("the line tells the secret: %q", line)
			}
		})
	}
}
