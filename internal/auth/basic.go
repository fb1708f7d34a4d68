package auth

import (
	"encoding/base64"
	"net/http"

	"example.com/healthd/internal/reload"
)

// NewBasic is HTTP Basic authentication (RFC 7617), in UTF-8.
func NewBasic(pairs *reload.Value[Credentials]) Method {
	refused := answer{http.StatusUnauthorized, "Could not verify", `Basic realm="Login Required", charset="UTF-8"`}
	return Method{pairs, "basic", checkBasic, refused, refused}
}

func checkBasic(r *http.Request, pairs Credentials) (user string, err error) {
	encoded, err := parameter(r, "Basic")
	if err != nil {
		return "", err
	}
	pair, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", errWrong
	}
	return pairs.match(string(pair))
}
