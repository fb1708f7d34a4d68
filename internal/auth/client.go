package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// Header returns the request headers of a client that has the credential, a line
// of a credential file, of the method that -auth names so.
func Header(method, line string, now time.Time) http.Header {
	h := http.Header{}
	switch method {
	case "basic":
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(line)))
	case "aksk":
		access, secret, _ := strings.Cut(line, ":")
		h.Set("X-Access-Key", access)
		h.Set("X-Secret-Key", secret)
	case "jwt":
		h.Set("Authorization", "Bearer "+mint(line, "probe", now, time.Minute))
	}
	return h
}
