package auth

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/healthd/internal/reload"
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
			m := newMethod(method, reload.Fixed(NewCredentials([]string{credential})))
			guard := Guard{Methods: []Method{m}, Log: log}
			r := httptest.NewRequest(http.MethodGet, "/health", nil)
			r.Header = Header(method, credential, now)
			b.ReportAllocs()
			for b.Loop() {
				if refused := guard.Check(r); refused != nil {
					b.Fatal(refused.reason)
				}
			}
		})
	}
}
