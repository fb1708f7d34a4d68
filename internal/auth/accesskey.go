package auth

import (
	"net/http"
	"strings"

	"example.com/healthd/internal/reload"
)

// AccessKey is a pair of request headers: X-Access-Key and X-Secret-Key.
type AccessKey struct{ *reload.Value[Credentials] }

func (m AccessKey) check(r *http.Request) (string, error) {
	access, secret := r.Header["X-Access-Key"], r.Header["X-Secret-Key"]
	switch {
	case len(access) > 1 || len(secret) > 1:
		return "", errDuplicate
	case access == nil && secret == nil:
		return "", errMissing
	case access == nil || secret == nil || strings.Contains(access[0], ":"): // it would move the border
		return "", errWrong
	}
	return m.Get().match(access[0] + ":" + secret[0])
}

// refusal challenges with a scheme that no browser knows, and so opens no dialog
// for.
func (m AccessKey) refusal(error) refusal {
	return refusal{"aksk", http.StatusUnauthorized, `{"message":"Unauthorized"}`,
		`AccessKey realm="Login Required"`}
}
