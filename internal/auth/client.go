package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// Header is what a client sends that has a line of the file of the method, named as in -auth.
func Header(method, line string, now time.Time) http.Header {
	switch method {
	case "basic":
		return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(line))}}
	case "aksk":
		access, secret, _ := strings.Cut(line, ":")
		return http.Header{"X-Access-Key": {access}, "X-Secret-Key": {secret}}
	}
	return http.Header{"Authorization": {"Bearer " + mint(line, "probe", now, time.Minute)}}
}
