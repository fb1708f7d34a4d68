package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

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
		h.Set("Authorization", "Bearer "+mint(credential, "probe", now, time.Minute))
	}
	return h
}
