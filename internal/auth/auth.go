// Package auth locks a handler: HTTP Basic, access key and secret key, JSON Web Tokens. Secret
// material is compared in the same time whatever the lengths and whichever line matches.
package auth

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"example.com/healthd/internal/reload"
)

// Why a request is refused: for the log; its client is not told.
var (
	errMissing   = errors.New("no credential")
	errDuplicate = errors.New("duplicate credential header")
	errWrong     = errors.New("wrong credential")
)

// Method is one way to prove who asks: see NewBasic, NewAccessKey and NewJWT.
type Method struct {
	*Credentials
	check          func(*http.Request) (subject string, err error)
	missing, wrong Refusal
}

type Refusal struct {
	code                      int
	method, contentType, body string   // the method as -auth names it
	challenges                []string // WWW-Authenticate (RFC 9110, section 11.6.1)
	reason                    error    // set by Check
}

// Guard admits what any of its methods admits: at least one, in the order of -auth.
type Guard struct {
	Methods []Method
	Log     *slog.Logger
}

// Check returns nil if the request is admitted. The first method whose credential was presented,
// or else the first of all, words a refusal; each challenges, as a client may wait for its own.
func (g Guard) Check(r *http.Request) (refused *Refusal) {
	// Refused whether or not a method here reads the header: a proxy may judge by the other one.
	duplicate := max(len(r.Header["Authorization"]), len(r.Header["X-Access-Key"]), len(r.Header["X-Secret-Key"])) > 1
	var challenges []string
	for _, m := range g.Methods {
		_, err := m.check(r)
		if err == nil && !duplicate {
			return nil
		}
		next := m.wrong
		if err == errMissing {
			next = m.missing
		}
		next.reason = cmp.Or(err, errDuplicate)
		challenges = append(challenges, next.challenges...)
		if refused == nil || refused.reason == errMissing && err != errMissing {
			refused = &next
		}
	}
	refused.challenges = challenges
	return refused
}

// Handler calls next with the requests that the guard admits and answers the others itself.
func (g Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused := g.Check(r)
		if refused != nil && refused.reason != errMissing {
			for _, m := range g.Methods {
				m.Refresh() // a new credential is good at once
			}
			refused = g.Check(r)
		}
		w.Header().Set("Cache-Control", "no-store")
		if refused == nil {
			next.ServeHTTP(w, r)
			return
		}
		g.Log.Warn("refused", "auth", refused.method, "reason", refused.reason, "remote", r.RemoteAddr)
		w.Header()["Www-Authenticate"] = refused.challenges
		w.Header().Set("Content-Type", refused.contentType)
		w.WriteHeader(refused.code)
		io.WriteString(w, refused.body)
	})
}

// Credentials are what a method admits: the lines of its file, pairs name:secret or keys.
type Credentials = reload.Value[[]Credential]

// Credential is a line and its hash. Hashes are compared, since all have the same length.
type Credential struct {
	Line string
	sum  [sha256.Size]byte
}

func NewCredentials(lines []string) (all []Credential) {
	for _, line := range lines {
		all = append(all, Credential{line, sha256.Sum256([]byte(line))})
	}
	return all
}

// match returns errWrong unless name:secret is one of pairs, parted at its first colon.
func match(name, secret string, pairs []Credential) error {
	sum, err := sha256.Sum256([]byte(name+":"+secret)), errWrong
	for _, p := range pairs {
		if subtle.ConstantTimeCompare(p.sum[:], sum[:]) == 1 && !strings.Contains(name, ":") {
			err = nil
		}
	}
	return err
}

// Header is how a client presents line, a credential of method ("basic", "aksk" or "jwt").
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
