// Package auth locks a handler: HTTP Basic, access key and secret key, JSON Web Tokens. Every
// method decides first and answers second. A comparison of secret material takes the same time
// whatever the lengths and whichever line matches.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"example.com/healthd/internal/reload"
)

// Why a request is refused, for the log. The client is told its method's wording.
var (
	errMissing   = errors.New("no credential")
	errDuplicate = errors.New("duplicate credential header")
	errWrong     = errors.New("wrong credential")
)

// Method is one way to prove who asks: see NewBasic, NewAccessKey and NewJWT.
type Method struct {
	*reload.Value[Credentials]
	name string // as -auth names it
	// check returns who asks, or why that is not proven: errMissing if the request carries no
	// credential of this method.
	check          func(*http.Request, Credentials) (subject string, err error)
	missing, wrong answer
}

type answer struct {
	code      int
	body      string // JSON if it begins with a brace
	challenge string // WWW-Authenticate (RFC 9110, section 11.6.1)
}

// Refusal is the answer to a request that a Guard does not admit.
type Refusal struct {
	answer
	method     string
	reason     error
	challenges []string // of every method: a client may wait for the one it knows
}

// Guard admits a request that any one of its methods admits. They are in the order in which
// the user named them; there is at least one.
type Guard struct {
	Methods []Method
	Log     *slog.Logger
}

// Check returns nil if the request is admitted. A refusal is worded by the first method whose
// credential was presented, or else by the first of all.
func (g Guard) Check(r *http.Request) *Refusal {
	// Two of a header are refused even if no method here reads it: a proxy in front may have
	// judged by the other one.
	duplicate := max(len(r.Header["Authorization"]), len(r.Header["X-Access-Key"]), len(r.Header["X-Secret-Key"])) > 1
	refused := new(Refusal)
	for _, m := range g.Methods {
		_, err := m.check(r, m.Get())
		switch {
		case err == nil && !duplicate:
			return nil
		case err == nil:
			err = errDuplicate
		}
		answer := m.wrong
		if err == errMissing {
			answer = m.missing
		}
		if refused.reason == nil || refused.reason == errMissing && err != errMissing {
			refused.answer, refused.method, refused.reason = answer, m.name, err
		}
		refused.challenges = append(refused.challenges, answer.challenge)
	}
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
		if refused == nil {
			next.ServeHTTP(w, r)
			return
		}
		g.Log.Warn("refused", "auth", refused.method, "reason", refused.reason, "remote", r.RemoteAddr)
		w.Header()["Www-Authenticate"] = refused.challenges
		respond(w, refused.code, refused.body)
	})
}

// subject returns who asks, of a request that Handler has admitted.
func (g Guard) subject(r *http.Request) string {
	for _, m := range g.Methods {
		if subject, err := m.check(r, m.Get()); err == nil {
			return subject
		}
	}
	return ""
}

func respond(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if strings.HasPrefix(body, "{") {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	io.WriteString(w, body)
}

// parameter returns what follows the scheme in an Authorization header (RFC 9110, section
// 11.4), which may be nothing.
func parameter(r *http.Request, scheme string) (string, error) {
	if len(r.Header["Authorization"]) > 1 {
		return "", errDuplicate
	}
	got, parameter, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(got, scheme) {
		return "", errMissing
	}
	return strings.Trim(parameter, " "), nil
}

// Credentials are what a method admits: the lines of its file.
type Credentials []Credential

// Credential is a pair name:secret, or a key.
type Credential struct {
	Line string
	sum  [sha256.Size]byte // compared instead of Line, for it is as long for every one
}

// NewCredentials takes lines, each of which is a credential.
func NewCredentials(lines []string) (all Credentials) {
	for _, line := range lines {
		all = append(all, Credential{line, sha256.Sum256([]byte(line))})
	}
	return all
}

// match returns the name of the pair that line is.
func (all Credentials) match(line string) (name string, err error) {
	sum, err := sha256.Sum256([]byte(line)), errWrong
	for _, c := range all {
		if subtle.ConstantTimeCompare(c.sum[:], sum[:]) == 1 {
			name, _, _ = strings.Cut(c.Line, ":")
			err = nil
		}
	}
	return name, err
}
