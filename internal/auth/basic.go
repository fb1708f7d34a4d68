package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"example.com/healthd/internal/reload"
)

// Basic is HTTP Basic authentication (RFC 7617).
type Basic struct{ *reload.Value[Credentials] }

func (m Basic) check(r *http.Request) (string, error) {
	values := r.Header["Authorization"]
	switch {
	case len(values) > 1:
		return "", errAmbiguous
	case len(values) == 0 || !isBasic(values[0]):
		return "", errMissing
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return "", errWrong
	}
	return m.Get().match(user, password)
}

// isBasic reports whether an Authorization header is of the scheme Basic.
func isBasic(authorization string) bool {
	scheme, _, _ := strings.Cut(authorization, " ")
	return strings.EqualFold(scheme, "Basic")
}

func (m Basic) refusal(error) refusal {
	return refusal{"basic", http.StatusUnauthorized, `Basic realm="Login Required", charset="UTF-8"`, "Could not verify"}
}

// AccessKey is a pair of request headers: X-Access-Key and X-Secret-Key.
type AccessKey struct{ *reload.Value[Credentials] }

func (m AccessKey) check(r *http.Request) (string, error) {
	access, secret := r.Header["X-Access-Key"], r.Header["X-Secret-Key"]
	switch {
	case len(access) > 1 || len(secret) > 1:
		return "", errAmbiguous
	case len(access) == 0 && len(secret) == 0:
		return "", errMissing
	case len(access) == 0 || len(secret) == 0:
		return "", errWrong
	}
	return m.Get().match(access[0], secret[0])
}

// refusal has a challenge because RFC 9110, section 11.6.1, wants one with every
// 401; no browser opens a dialog for a scheme that it does not know.
func (m AccessKey) refusal(error) refusal {
	return refusal{"aksk", http.StatusUnauthorized, `AccessKey realm="Login Required"`, `{"message":"Unauthorized"}`}
}

// Header returns the request headers of a client that has the credential, a
// line of a credential file, of the method that -auth calls by this name.
func Header(method, credential string, now time.Time) http.Header {
	h := http.Header{}
	switch method {
	case "basic":
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(credential)))
	case "aksk":
		access, secret, _ := strings.Cut(credential, ":")
		h.Set("X-Access-Key", access)
		h.Set("X-Secret-Key", secret)
	case "jwt":
		h.Set("Authorization", "Bearer "+Mint(credential, "probe", now, time.Minute))
	}
	return h
}
