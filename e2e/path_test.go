//go:build e2e

package e2e

import (
	"syscall"
	"testing"
)

// A redirect would be worse than a 404: some balancers take it for healthy.
func TestWhatIsNotExactlyThePathIsNotFound(t *testing.T) {
	locked := []string{"-auth", "jwt", "-drain", "1m"}
	env := []string{"HEALTHD_JWT_SECRET=" + newKey(), "HEALTHD_BASIC=" + newPair()}
	for _, row := range []struct {
		name    string
		of      *instance
		leaving bool
	}{
		{"serving", start(t, nil), false},
		{"draining", start(t, nil, "-drain", "1m"), true},
		{"locked", start(t, env, locked...), false},
		{"locked and draining", start(t, env, locked...), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.leaving {
				row.of.signal(t, syscall.SIGTERM)
				eventually(t, "it drains", func() bool { return get(t, row.of.addr).last })
			}
			for _, path := range []string{
				"//health", "///health", "/health/", "/health//", "/./health", "/health/.", "/health/../health",
				"/x/../health", "/../health", "/Health", "/healthz", "/health;x", "/", "//", "//token", "/token/",
				"/x/../token", "//?x", "//health?x", "/health/?x",
			} {
				for _, method := range []string{"GET", "POST"} {
					c := &client{addr: row.of.addr, fresh: true}
					if a, err := c.ask(method, path); err != nil || a.code != 404 {
						t.Errorf("%s %s: %+v, %v", method, path, a, err)
					}
				}
			}
			for _, path := range []string{"//health", "/health/../health"} {
				status, header, _ := curl(t, "--http2-prior-knowledge", "--path-as-is", "http://"+row.of.addr+path)
				if status != "HTTP/2 404" || header.Get("Location") != "" {
					t.Errorf("HTTP/2 %s: %q, to %q", path, status, header.Get("Location"))
				}
			}
		})
	}
}
