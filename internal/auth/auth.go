// Package auth locks a handler: HTTP Basic, access key and secret key, JSON Web
// Tokens. Every method decides first and answers second. Comparisons of secret
// material take the same time whatever the lengths, and none is skipped because
// an earlier one matched.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"example.com/healthd/internal/reload"
)

// Why a request is refused. The client is told no more than its method's
// wording; these go to the log.
var (
	errMissing   = errors.New("no credential")
	errAmbiguous = errors.New("a header that carries a credential stands there twice")
	errWrong     = errors.New("wrong credential")
)

// Method is one way to prove who asks: [Basic], [AccessKey] or [JWT].
type Method interface {
	// check returns who asks, or why that is not proven: errMissing if the
	// request carries no credential of this method.
	check(r *http.Request) (subject string, err error)
	// Look re-reads the method's files.
	Look()
	// refusal is the answer to a request that check refused with err.
	refusal(err error) refusal
}

// New returns the method that -auth calls by name. lines are its credentials, and
// parse re-reads them from files, if there are any.
func New(name string, log *slog.Logger, lines []string, parse func([][]byte) ([]string, error), files ...string) Method {
	if name == "jwt" {
		last := new(atomic.Pointer[accepted])
		last.Store(new(accepted))
		return JWT{reload.New(lines, log, parse, files...), time.Now, last}
	}
	credentials := reload.New(NewCredentials(lines), log, func(contents [][]byte) (Credentials, error) {
		lines, err := parse(contents)
		return NewCredentials(lines), err
	}, files...)
	if name == "basic" {
		return Basic{credentials}
	}
	return AccessKey{credentials}
}

type refusal struct {
	method    string // as -auth names it
	code      int
	challenge string // WWW-Authenticate
	body      string // JSON if it begins with a brace
}

// Guard admits a request that any one of its methods admits. Methods stand in
// the order in which the user named them; there is at least one.
type Guard struct {
	Methods []Method
	Log     *slog.Logger
}

// Check decides about a request and writes nothing. refused is nil if the
// request is admitted; otherwise it is the first method whose credential was
// presented, or else the first method, and err its reason.
func (g Guard) Check(r *http.Request) (subject string, refused Method, err error) {
	admitted := false
	for _, m := range g.Methods {
		s, e := m.check(r)
		if e == nil {
			admitted, subject = true, s
		}
		if refused == nil || err == errMissing && e != errMissing {
			refused, err = m, e
		}
	}
	// Nothing makes up for a credential header that stands there twice.
	twice := max(len(r.Header["Authorization"]), len(r.Header["X-Access-Key"]), len(r.Header["X-Secret-Key"])) > 1
	switch {
	case admitted && !twice:
		return subject, nil, nil
	case err == nil || twice && err == errMissing:
		err = errAmbiguous
	}
	return "", refused, err
}

// Handler calls next with the requests that the guard admits and answers the
// others itself.
func (g Guard) Handler(next http.Handler) http.Handler {
	return g.handler(func(w http.ResponseWriter, r *http.Request, _ string) { next.ServeHTTP(w, r) })
}

func (g Guard) handler(next func(w http.ResponseWriter, r *http.Request, subject string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject, refused, err := g.Check(r)
		if refused != nil {
			// A new secret is in use before the timer looks again. Whether these looks
			// find it does not matter: another request's may have, just before.
			for _, m := range g.Methods {
				m.Look()
			}
			subject, refused, err = g.Check(r)
		}
		if refused == nil {
			next(w, r, subject)
			return
		}
		answer := refused.refusal(err)
		g.Log.Warn("refused", "auth", answer.method, "reason", err, "remote", r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", answer.challenge)
		write(w, answer.code, answer.body)
	})
}

func write(w http.ResponseWriter, code int, body string) {
	contentType := "text/plain; charset=utf-8"
	if strings.HasPrefix(body, "{") {
		contentType = "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	w.Write([]byte(body))
}

// Credentials are pairs of a name and a secret. Only sums are kept, so that
// comparing takes the same time for every length of a stored secret.
type Credentials []credential

type credential struct {
	name string
	sum  [sha256.Size]byte
}

// NewCredentials takes pairs of the form name:secret, parted at the first colon.
func NewCredentials(pairs []string) Credentials {
	var all Credentials
	for _, pair := range pairs {
		name, _, _ := strings.Cut(pair, ":")
		all = append(all, credential{name, sha256.Sum256([]byte(pair))})
	}
	return all
}

// match returns the name of the credential that name and secret make. A colon
// in the name would move the border between the two.
func (all Credentials) match(name, secret string) (string, error) {
	sum := sha256.Sum256([]byte(name + ":" + secret))
	found, err := "", errWrong
	for _, c := range all {
		if subtle.ConstantTimeCompare(c.sum[:], sum[:]) == 1 && !strings.Contains(name, ":") {
			found, err = c.name, nil
		}
	}
	return found, err
}
