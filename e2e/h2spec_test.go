//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/xml"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// h2specModule pins h2spec, which names no versions of what it needs.
const h2specModule = `module h2spec

go 1.26

require (
	github.com/fatih/color v1.19.0
	github.com/inconshreveable/mousetrap v1.1.0
	github.com/mattn/go-colorable v0.1.14
	github.com/mattn/go-isatty v0.0.20
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	github.com/summerwind/h2spec v2.2.1+incompatible
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
	golang.org/x/text v0.43.0
)
`

// buildH2spec builds h2spec in a module of its own and returns its path.
func buildH2spec(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(h2specModule), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-buildvcs=false", "-o", "h2spec", "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "h2spec")
}

// h2spec starts the parts that args names after flags, or all if it names none.
// The function that it returns waits, and tells which cases fail, each with its part.
func h2spec(t *testing.T, path, addr string, args ...string) func() (failed map[string]string) {
	t.Helper()
	server, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report")
	p := spawn(t, nil, nil, path, append([]string{"-h", server, "-p", port, "-P", "/health", "-o", "1", "-j", file}, args...)...)
	return func() map[string]string {
		t.Helper()
		p.wait(t, buildTime) // its exit code tells no more than that some case has failed
		var report struct {
			Cases []struct {
				Part    string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testsuite>testcase"`
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = xml.Unmarshal(text, &report)
		}
		if err != nil || len(report.Cases) == 0 {
			t.Fatalf("h2spec's report: %v\n%s", err, p.stdout.String())
		}
		failed := make(map[string]string)
		for _, c := range report.Cases {
			if c.Failure != nil || c.Error != nil {
				failed[c.Part+" "+c.Name] = c.Part
			}
		}
		return failed
	}
}

// Whatever healthd sets, it speaks HTTP/2 no worse than net/http alone.
func TestH2specFailsNoCaseThatBareNetHTTPPasses(t *testing.T) {
	path := buildH2spec(t)
	t.Run("plain", func(t *testing.T) {
		comparedByH2spec(t, path, start(t, nil), func(srv *http.Server, l net.Listener) { srv.Serve(l) })
	})
	t.Run("over TLS", func(t *testing.T) {
		crt := newCertificate(t, ecdsaKey(t))
		files := crt.install(t)
		pair, err := tls.X509KeyPair([]byte(crt.cert), []byte(crt.key))
		if err != nil {
			t.Fatal(err)
		}
		i := start(t, files)
		i.trust = crt.trust()
		comparedByH2spec(t, path, i, func(srv *http.Server, l net.Listener) {
			srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
			srv.ServeTLS(l, "", "")
		}, "-t", "-k")
	})
}

// comparedByH2spec fails if i fails a case that net/http passes if it is served.
func comparedByH2spec(t *testing.T, path string, i *instance, serve func(*http.Server, net.Listener), flags ...string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	bare := &http.Server{
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, healthy)
		}),
	}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	go serve(bare, l)
	t.Cleanup(func() { bare.Close() })

	both := func(parts ...string) (bareFails, healthdFails map[string]string) {
		args := slices.Concat(flags, parts)
		first, second := h2spec(t, path, l.Addr().String(), args...), h2spec(t, path, i.addr, args...)
		return first(), second()
	}
	allowed, failed := both()
	t.Logf("bare net/http fails %d cases, healthd %d", len(allowed), len(failed))
	// Some cases are races between an answer and the end of a connection, which
	// either server loses now and then: those, one wins or the other loses in ten.
	for range 10 {
		maps.DeleteFunc(failed, func(name, _ string) bool { return allowed[name] != "" })
		if len(failed) == 0 {
			break
		}
		var again map[string]string
		allowed, again = both(slices.Compact(slices.Sorted(maps.Values(failed)))...)
		maps.DeleteFunc(failed, func(name, _ string) bool { return again[name] == "" })
	}
	if len(failed) > 0 {
		t.Errorf("healthd fails %q, bare net/http does not", slices.Sorted(maps.Keys(failed)))
	}
	i.intact(t)
}
