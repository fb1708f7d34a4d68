// Package auth locks a handler: HTTP Basic, access key and secret key, JSON Web
// Tokens. Every method decides first and answers second. A comparison of secret
// material takes the same time whatever the lengths, and with however many of a
// method's credentials.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
)

// Why a request is refused. These go to the log; the client is told no more than
// its method's wording.
var (
	errMissing   = errors.New("no credential")
	errDuplicate = errors.New("duplicate credential header")
	errWrong     = errors.New("wrong credential")
)

// Method is one way to prove who asks: [Basic], [AccessKey] or [JWT].
type Method interface {
	// check returns who asks, or why that is not proven: errMissing if the
	// request carries no credential of this method.
	check(r *http.Request) (subject string, err error)
	// refusal is the answer to a request that check refused with err.
	refusal(err error) refusal

	// Of reload.Value.
	Refresh()
	Watch(context.Context)
}

type refusal struct {
	method    string // as -auth names it
	code      int
	body      string // JSON if it begins with a brace
	challenge string // WWW-Authenticate (RFC 9110, section 11.6.1)
}

// Refusal is the answer to a request that a [Guard] does not admit.
type Refusal struct {
	refusal             // of one method
	reason     error    // why that one refused
	challenges []string // of every method: a client may wait for the one it knows
}

// Guard admits a request that any one of its methods admits. Methods are in the
// order in which the user named them; there is at least one.
type Guard struct {
	Methods []Method
	Log     *slog.Logger
}

// Check returns nil if the request is admitted. A refusal is worded by the first
// method whose credential was presented, or else by the first of all.
func (g Guard) Check(r *http.Request) *Refusal {
	// Two of a header are refused even if no method here reads it: a proxy in
	// front may have judged by the other one.
	duplicate := max(len(r.Header["Authorization"]), len(r.Header["X-Access-Key"]), len(r.Header["X-Secret-Key"])) > 1
	refused := new(Refusal)
	for _, m := range g.Methods {
		_, err := m.check(r)
		if err == nil && !duplicate {
			return nil
		}
		if err == nil {
			err = errDuplicate
		}
		answer := m.refusal(err)
		if refused.reason == nil || refused.reason == errMissing && err != errMissing {
			refused.refusal, refused.reason = answer, err
		}
		refused.challenges = append(refused.challenges, answer.challenge)
	}
	return refused
}

// Handler calls next with the requests that the guard admits and answers the
// others itself.
func (g Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused := g.Check(r)
		if refused != nil && refused.reason != errMissing {
			// A new credential is good at once, before the timer re-reads its file.
			for _, m := range g.Methods {
				m.Refresh()
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
		if subject, err := m.check(r); err == nil {
			return subject
		}
	}
	return ""
}

func respond(w http.ResponseWriter, code int, body string) {
	contentType := "text/plain; charset=utf-8"
	if strings.HasPrefix(body, "{") {
		contentType = "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	io.WriteString(w, body)
}

// scheme returns the parameter of an Authorization header of this scheme (RFC
// 9110, section 11.4), which may be empty.
func scheme(r *http.Request, name string) (parameter string, err error) {
	if len(r.Header["Authorization"]) > 1 {
		return "", errDuplicate
	}
	got, parameter, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(got, name) {
		return "", errMissing
	}
	return strings.Trim(parameter, " "), nil
}

// Credentials are what a method admits: lines of its file.
type Credentials []Credential

// Credential is a pair name:secret, or a key.
type Credential struct {
	Line string
	sum  [sha256.Size]byte // as long for every Line, and so compared in the same time
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
	sum := sha256.Sum256([]byte(line))
	err = errWrong
	for _, c := range all {
		if subtle.ConstantTimeCompare(c.sum[:], sum[:]) == 1 {
			name, _, _ = strings.Cut(c.Line, ":")
			err = nil
		}
	}
	return name, err
}
