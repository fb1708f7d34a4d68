//go:build e2e

package e2e

import (
	"crypto/tls"
	"io"
	"slices"
	"testing"
)

// The number of connections that may be open, and be kept after an answer.
const (
	maxOpen = 128
	maxKept = maxOpen / 2
)

// Balancers pool connections. Before healthd closes one for want of room it has
// long told their pools to shrink: no request of theirs meets the end of one.
func TestPooledConnectionsAreToldToCloseAndNotCut(t *testing.T) {
	crt := newCertificate(t, ecdsaKey(t))
	for _, row := range []struct {
		name  string
		env   []string
		trust *tls.Config
	}{
		{"plain", nil, nil},
		{"over TLS", crt.install(t), crt.trust()},
	} {
		t.Run(row.name, func(t *testing.T) {
			i := start(t, row.env)
			i.trust = row.trust
			var pool []*client
			for n := range 5 * maxOpen {
				c := &client{addr: i.addr, tls: i.trust}
				t.Cleanup(c.close)
				a, err := c.get("/health")
				if err != nil || a.code != 200 {
					t.Fatalf("connection %d: %+v, %v", n+1, a, err)
				}
				if a.last != (n >= maxKept) {
					t.Fatalf("connection %d is told to close: %v, want those beyond %d", n+1, a.last, maxKept)
				}
				if !a.last {
					pool = append(pool, c)
				}
			}
			for n, c := range pool {
				before := c.conn
				if a, err := c.get("/health"); err != nil || a.code != 200 || c.conn != before && !a.last {
					t.Errorf("connection %d of the pool: %+v, %v", n+1, a, err)
				}
			}
			if row.trust != nil {
				return
			}
			one := dial(t, i.addr) // HTTP/2 has another word for it
			io.WriteString(one, preface+frame(frameSettings, 0, 0, "")+frame(frameHeaders, endStream|endHeaders, 1, fields))
			kinds, _ := frames(one, never)
			if !slices.Contains(kinds, frameHeaders) || !slices.Contains(kinds, frameGoAway) {
				t.Errorf("frames %d, want an answer and GOAWAY", kinds)
			}
		})
	}
}
