package auth

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// BenchmarkCheck is what a lock adds to a probe that it admits.
func BenchmarkCheck(b *testing.B) {
	for method, credential := range map[string]string{
		"basic": "probe:" + strings.Repeat("p", 32),
		"aksk":  "AK" + strings.Repeat("a", 18) + ":" + strings.Repeat("s", 40),
		"jwt":   strings.Repeat("k", 32),
	} {
		b.Run(method, func(b *testing.B) {
			log := slog.New(slog.DiscardHandler)
			guard := Guard{Methods: []Method{New(method, log, []string{credential}, nil)}, Log: log}
			r := httptest.NewRequest(http.MethodGet, "/health", nil)
			r.Header = Header(method, credential, time.Now().Add(time.Hour))
			b.ReportAllocs()
			for b.Loop() {
				if _, refused, err := guard.Check(r); refused != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
