package auth

import "net/http"

// NewAccessKey admits by X-Access-Key and X-Secret-Key. No browser opens a dialog for its challenge.
func NewAccessKey(pairs *Credentials) Method {
	refused := Refusal{http.StatusUnauthorized, "aksk", "application/json", `{"message":"Unauthorized"}`,
		[]string{`AccessKey realm="Login Required"`}, nil}
	return Method{pairs, func(r *http.Request) (string, error) {
		access, secret := r.Header.Get("X-Access-Key"), r.Header.Get("X-Secret-Key")
		if access == "" && secret == "" {
			return "", errMissing
		}
		return access, match(access, secret, pairs.Get())
	}, refused, refused}
}
