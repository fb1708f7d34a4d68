package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// NewBasic admits by HTTP Basic authentication (RFC 7617), in UTF-8.
func NewBasic(pairs *Credentials) Method {
	refused := Refusal{http.StatusUnauthorized, "basic", "text/plain; charset=utf-8", "Could not verify",
		[]string{`Basic realm="Login Required", charset="UTF-8"`}, nil}
	return Method{pairs, func(r *http.Request) (string, error) {
		encoded, sent := parameter(r, "Basic")
		if !sent {
			return "", errMissing
		}
		pair, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return "", errWrong
		}
		user, password, _ := strings.Cut(string(pair), ":")
		return user, match(user, password, pairs.Get())
	}, refused, refused}
}

// parameter returns what follows the scheme in an Authorization header (RFC 9110, section 11.4),
// which may be nothing. A word alone that is no scheme is a bearer's.
func parameter(r *http.Request, scheme string) (parameter string, sent bool) {
	for _, header := range r.Header["Authorization"] {
		got, rest, found := strings.Cut(header, " ")
		if !found && !strings.EqualFold(got, "Basic") && !strings.EqualFold(got, "Bearer") {
			got, rest = "Bearer", got
		}
		if strings.EqualFold(got, scheme) {
			return strings.Trim(rest, " "), true
		}
	}
	return "", false
}
