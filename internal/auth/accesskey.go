package auth

import (
	"net/http"
	"strings"

	"example.com/healthd/internal/reload"
)

// NewAccessKey is a pair of request headers: X-Access-Key and X-Secret-Key. No
// browser knows the scheme of its challenge, and so none opens a dialog.
func NewAccessKey(pairs *reload.Value[Credentials]) Method {
	refused := answer{http.StatusUnauthorized, `{"message":"Unauthorized"}`, `AccessKey realm="Login Required"`}
	return Method{pairs, "aksk", checkAccessKey, refused, refused}
}

func checkAccessKey(r *http.Request, pairs Credentials) (access string, err error) {
	accesses, secrets := r.Header["X-Access-Key"], r.Header["X-Secret-Key"]
	switch {
	case len(accesses) > 1 || len(secrets) > 1:
		return "", errDuplicate
	case accesses == nil && secrets == nil:
		return "", errMissing
	case accesses == nil || secrets == nil || strings.Contains(accesses[0], ":"): // which would move the border
		return "", errWrong
	}
	return pairs.match(accesses[0] + ":" + secrets[0])
}
