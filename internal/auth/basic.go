package auth

import (
	"encoding/base64"
	"net/http"

	"example.com/healthd/internal/reload"
)

// Basic is HTTP Basic authentication (RFC 7617), in UTF-8.
type Basic struct{ *reload.Value[Credentials] }

func (m Basic) check(r *http.Request) (string, error) {
	encoded, err := scheme(r, "Basic")
	if err != nil {
		return "", err
	}
	line, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", errWrong
	}
	return m.Get().match(string(line))
}

func (m Basic) refusal(error) refusal {
	return refusal{"basic", http.StatusUnauthorized, "Could not verify",
		`Basic realm="Login Required", charset="UTF-8"`}
}
