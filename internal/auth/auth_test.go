package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/healthd/internal/reload"
)

// TestMain starts what listens for signals, which a synctest bubble must not own.
func TestMain(m *testing.M) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}

var (
	now   = time.Unix(2_000_000_000, 500_000_000)
	clock = func() time.Time { return now }
	keys  = []string{"the-first-key-of-thirty-two-bytes", "the-second-key-of-thirty-two-bytes"}

	lines = map[string][]string{
		"basic": {"user:s3cret", "other:pa:ss:", "jürgen:pässwörd€"},
		"aksk":  {"AKID:s3cret", "AK2:with:colon"},
		"jwt":   keys,
	}
)

// newMethod is the method that -auth calls by name, with a clock at now.
func newMethod(name string, value *Credentials) Method {
	switch name {
	case "basic":
		return NewBasic(value)
	case "aksk":
		return NewAccessKey(value)
	}
	return NewJWT(value, clock)
}

// newGuard has the methods of a list as -auth takes it.
func newGuard(log *slog.Logger, list string) (g Guard) {
	g.Log = log
	for name := range strings.SplitSeq(list, ",") {
		value, _ := reload.New("", nil, func([][]byte) ([]Credential, error) { return NewCredentials(lines[name]), nil })
		g.Methods = append(g.Methods, newMethod(name, value))
	}
	return g
}

func newRequest(method string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func basic(pair string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// The answers, and whose they are. No other header is set.
type reply struct {
	method                       string
	code                         int
	challenge, contentType, body string
}

var (
	admitted     = reply{"", 200, "", "text/plain", "in"}
	notBasic     = reply{"basic", 401, `Basic realm="Login Required", charset="UTF-8"`, "text/plain; charset=utf-8", "Could not verify"}
	notAKSK      = reply{"aksk", 401, `AccessKey realm="Login Required"`, "application/json", `{"message":"Unauthorized"}`}
	tokenMissing = reply{"jwt", 403, "Bearer", "application/json", `{"message":"Token is missing!"}`}
	tokenInvalid = reply{"jwt", 403, `Bearer error="invalid_token"`, "application/json", `{"message":"Token is invalid!"}`}
)

func TestGuard(t *testing.T) {
	t.Parallel()
	const (
		access, wrongAccess   = "X-Access-Key: AKID", "X-Access-Key: akid"
		secret, wrongSecret   = "X-Secret-Key: s3cret", "X-Secret-Key: s3creT"
		bearer                = "Authorization: Bearer "
		none, wrongOne, twice = "no credential", "wrong credential", "duplicate credential header"
	)
	var (
		token      = mint(keys[0], "a", now, time.Minute)
		wrongToken = mint("some-other-key-of-thirty-two-bytes", "a", now, time.Minute)
		right      = basic("user:s3cret")
		wrong      = basic("user:wrong")
	)
	for _, tt := range []struct {
		name, methods string
		headers       []string
		want          reply
		reason        string // in the log
	}{
		{"basic: no header is refused", "basic", nil, notBasic, none},
		{"basic: an empty header is none", "basic", []string{"Authorization: "}, notBasic, none},
		{"basic: another scheme is none", "basic", []string{"Authorization: Digest dXNlcjpzM2NyZXQ="}, notBasic, none},
		{"basic: a method that is off is none", "basic", []string{access, secret}, notBasic, none},
		{"basic: Latin-1 is another password", "basic", []string{basic("j\xfcrgen:p\xe4ssw\xf6rd\x80")}, notBasic, wrongOne},
		{"basic: more spaces are as good (RFC 9110, 11.4)", "basic", []string{strings.Replace(right, "Basic ", "Basic   ", 1)}, admitted, ""},
		{"basic: the scheme is of any case", "basic", []string{strings.Replace(right, "Basic", "bASIC", 1)}, admitted, ""},
		{"basic: a wrong password is refused", "basic", []string{wrong}, notBasic, wrongOne},
		{"basic: a longer password is refused", "basic", []string{basic("user:s3cret\x00")}, notBasic, wrongOne},
		{"basic: halves of two lines are refused", "basic", []string{basic("other:s3cret")}, notBasic, wrongOne},
		{"basic: the scheme alone is refused", "basic", []string{"Authorization: Basic"}, notBasic, wrongOne},
		{"basic: what is no base64 is refused, though the right pair begins it", "basic", []string{right + "!"}, notBasic, wrongOne},
		{"basic: two headers are refused, though both are right", "basic", []string{right, right}, notBasic, twice},

		{"aksk: no header is refused", "aksk", nil, notAKSK, none},
		{"aksk: the colon does not move", "aksk", []string{"X-Access-Key: AK2:with", "X-Secret-Key: colon"}, notAKSK, wrongOne},
		{"aksk: a wrong secret is refused", "aksk", []string{access, wrongSecret}, notAKSK, wrongOne},
		{"aksk: an access key alone is refused", "aksk", []string{access}, notAKSK, wrongOne},
		{"aksk: two empty headers are none", "aksk", []string{"X-Access-Key: ", "X-Secret-Key: "}, notAKSK, none},
		{"aksk: two access keys are refused, though both are right", "aksk", []string{access, access, secret}, notAKSK, twice},
		{"aksk: two secret keys are refused, though the first is right", "aksk", []string{access, secret, wrongSecret}, notAKSK, twice},

		{"jwt: no header is a missing token", "jwt", nil, tokenMissing, none},
		{"jwt: an empty header is a missing token", "jwt", []string{"Authorization: "}, tokenMissing, none},
		{"jwt: Bearer alone is a missing token", "jwt", []string{"Authorization: Bearer"}, tokenMissing, none},
		{"jwt: another scheme is a missing token", "jwt", []string{"Authorization: Digest " + token}, tokenMissing, none},
		{"jwt: Basic alone is no bare token", "jwt", []string{"Authorization: Basic"}, tokenMissing, none},
		{"jwt: the scheme is of any case", "jwt", []string{"Authorization: bEARER " + token}, admitted, ""},
		{"jwt: the bare token is admitted", "jwt", []string{"Authorization: " + token}, admitted, ""},
		{"jwt: a wrong bare token is invalid", "jwt", []string{"Authorization: " + wrongToken}, tokenInvalid, errSignature},
		{"jwt: two headers are refused, though both are right", "jwt", []string{bearer + token, bearer + token}, tokenInvalid, twice},
		{"jwt: two headers are refused, though the second is empty", "jwt", []string{bearer + token, "Authorization: "}, tokenInvalid, twice},

		{"several: the last admits", "basic,aksk,jwt", []string{bearer + token}, admitted, ""},
		{"several: one that is right makes up for one that is wrong", "basic,aksk", []string{wrong, access, secret}, admitted, ""},
		{"several: one that is wrong later does not matter", "basic,aksk", []string{right, access}, admitted, ""},
		{"several: with nothing presented the first named words it", "jwt,basic,aksk", nil, tokenMissing, none},
		{"several: the only one presented words it, a password", "jwt,aksk,basic", []string{wrong}, notBasic, wrongOne},
		{"several: the only one presented words it, a token", "basic,aksk,jwt", []string{bearer + wrongToken}, tokenInvalid, errSignature},
		{"several: the first named of those presented words it", "jwt,aksk,basic", []string{wrong, wrongAccess, secret}, notAKSK, wrongOne},
		{"several: two headers are refused, worded by the first named", "basic,jwt", []string{right, bearer + token}, notBasic, twice},
		{"several: the same in the other order", "jwt,basic", []string{right, bearer + token}, tokenInvalid, twice},
		{"several: nothing makes up for two headers", "aksk,basic", []string{access, secret, right, right}, notAKSK, twice},
		{"several: two headers later leave the wording to the first presented", "basic,aksk", []string{wrong, access, access, secret}, notBasic, wrongOne},
		{"several: two headers of a method that is off are refused, too", "basic", []string{right, access, access}, notBasic, twice},
	} {
		var log bytes.Buffer
		g := newGuard(slog.New(slog.NewTextHandler(&log, nil)), tt.methods)
		r := newRequest("GET", tt.headers...)
		w := httptest.NewRecorder()
		g.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Write([]byte("in"))
		})).ServeHTTP(w, r)
		tt.want.check(t, tt.name, w)
		// The line is known to the byte: nothing that was presented is in it.
		line := fmt.Sprintf("level=WARN msg=refused auth=%s reason=%s remote=192.0.2.1:1234\n", tt.want.method, tt.reason)
		if tt.want == admitted {
			line = ""
		}
		if _, got, _ := strings.Cut(strings.ReplaceAll(log.String(), `"`, ""), " "); got != line {
			t.Errorf("%s: the log holds\n%swant\n%s", tt.name, got, line)
		}
	}
}

// check wants this reply and no other header.
func (a reply) check(t *testing.T, name string, w *httptest.ResponseRecorder) {
	t.Helper()
	h, challenges := w.Header(), w.Header()["Www-Authenticate"]
	if w.Code != a.code || w.Body.String() != a.body || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != a.contentType ||
		len(h) != 2+min(len(challenges), 1) || strings.Join(challenges, "") == "" != (a.challenge == "") ||
		a.challenge != "" && !slices.Contains(challenges, a.challenge) {
		t.Errorf("%s: got %d %q %v, want %+v", name, w.Code, w.Body, h, a)
	}
}

func TestARefusalChallengesWithEveryMethodThatIsOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, methods, header string
		want                  []reply
	}{
		{"in their order", "aksk,jwt,basic", "Accept: */*", []reply{notAKSK, tokenMissing, notBasic}},
		{"each for what it was sent", "basic,jwt", "Authorization: Bearer a.b.c", []reply{notBasic, tokenInvalid}},
		{"alone", "jwt", basic("a:b"), []reply{tokenMissing}},
	} {
		got := newGuard(nil, tt.methods).Check(newRequest("GET", tt.header)).challenges
		if !slices.EqualFunc(got, tt.want, func(c string, a reply) bool { return c == a.challenge }) {
			t.Errorf("%s: %q, want %v", tt.name, got, tt.want)
		}
	}
}

func TestARefusedHEADHasTheHeadersOfGET(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(newGuard(slog.New(slog.DiscardHandler), "basic").Handler(nil))
	defer srv.Close()
	resp, err := srv.Client().Head(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Date")
	if got := fmt.Sprint(resp.StatusCode, resp.Header); got != "401 map[Cache-Control:[no-store] Content-Length:[16] "+
		`Content-Type:[text/plain; charset=utf-8] Www-Authenticate:[Basic realm="Login Required", charset="UTF-8"]]` {
		t.Error(got)
	}
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	jwt := newGuard(nil, "jwt").Methods[0]
	for _, tt := range []struct {
		name, methods string
		headers       []string
		want          reply // of a refusal
		sub           string
	}{
		{"a user gets a token", "basic", []string{basic("user:s3cret")}, reply{}, `"user"`},
		{"an access key gets a token", "basic,aksk", []string{"X-Access-Key: AKID", "X-Secret-Key: s3cret"}, reply{}, `"AKID"`},
		{"a password or a secret may hold colons", "basic", []string{basic("other:pa:ss:")}, reply{}, `"other"`},
		{"the same of keys", "aksk", []string{"X-Access-Key: AK2", "X-Secret-Key: with:colon"}, reply{}, `"AK2"`},
		{"the second method's subject", "aksk,basic", []string{"X-Access-Key: AK2", basic("user:s3cret")}, reply{}, `"user"`},
		{"the subject is UTF-8", "basic", []string{basic("jürgen:pässwörd€")}, reply{}, `"jürgen"`},
		{"a wrong user gets none", "basic,aksk", []string{basic("user:wrong")}, notBasic, ""},
		{"a wrong key gets none", "basic,aksk", []string{"X-Access-Key: AKID"}, notAKSK, ""},
		{"a token gets none", "basic", []string{"Authorization: Bearer " + mint(keys[0], "a", now, time.Minute)}, notBasic, ""},
	} {
		w := httptest.NewRecorder()
		NewToken(jwt.Credentials, clock, newGuard(slog.New(slog.DiscardHandler), tt.methods)).ServeHTTP(w, newRequest("POST", tt.headers...))
		if tt.sub != "" {
			signed := seal(`{"alg":"HS256","typ":"JWT"}`, `{"exp":2000001800,"iat":2000000000,"sub":`+tt.sub+`}`, keys[0])
			tt.want = reply{"", 200, "", "application/json", `{"token":"` + signed + `"}`}
			wants(t, "at once", signed, now, trusted)
			wants(t, "30 minutes on", signed, now.Add(30*time.Minute), errExpired)
		}
		tt.want.check(t, tt.name, w)
	}
}

func TestTheProbeIsAdmittedByEachMethod(t *testing.T) {
	t.Parallel()
	for method := range lines {
		for _, line := range lines[method] {
			r := newRequest("GET")
			r.Header = Header(method, line, now)
			if refused := newGuard(nil, method).Check(r); refused != nil {
				t.Errorf("%s %q: %v", method, line, refused.reason)
			}
		}
	}
}

// fromFile is the method whose credentials, one a line, are in a file, and a way
// to replace them. Under a fake clock, which stands still while a file is read, no
// Refresh gives up before.
func fromFile(t *testing.T, name string, first string) (m Method, replace func(lines string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	replace = func(lines string) { os.WriteFile(path, []byte(lines), 0o600) }
	replace(first)
	value, err := reload.New("FILE", slog.New(slog.DiscardHandler), func(contents [][]byte) ([]Credential, error) {
		return NewCredentials(strings.Fields(string(contents[0]))), nil
	}, reload.File{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	go value.Watch(t.Context())
	return newMethod(name, value), replace
}

func TestANewCredentialIsAdmittedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, pair := range map[string][2]string{
			"basic": {"user:old", "user:new"},
			"aksk":  {"AKID:old", "AKID:new"},
			"jwt":   {keys[0], keys[1]},
		} {
			m, replace := fromFile(t, name, pair[0])
			h := Guard{[]Method{m}, slog.New(slog.DiscardHandler)}.Handler(http.NotFoundHandler())
			admitted := func(want bool, line, when string) {
				w, r := httptest.NewRecorder(), newRequest("GET")
				r.Header = Header(name, line, now)
				if h.ServeHTTP(w, r); (w.Code == 404) != want {
					t.Errorf("%s %s: %s is admitted: %v, want %v", name, when, line, !want, want)
				}
			}
			admitted(true, pair[0], "at first")
			admitted(false, pair[1], "at first")
			replace(pair[0] + "\n" + pair[1])
			admitted(true, pair[1], "with both")
			admitted(true, pair[0], "with both")
			replace(pair[1])
			m.Refresh()
			admitted(true, pair[1], "at last")
			admitted(false, pair[0], "at last")
		}
	})
}

func TestOnlyAPresentedCredentialHasFilesReadAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for header, want := range map[string]bool{
			"Accept: */*": false, "Authorization: Digest x": false, basic("user:old"): false, basic("user:wrong"): true,
		} {
			m, replace := fromFile(t, "basic", "user:old")
			replace("user:new")
			g := Guard{[]Method{m}, slog.New(slog.DiscardHandler)}
			g.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), newRequest("GET", header))
			if read := m.Get()[0].Line == "user:new"; read != want {
				t.Errorf("%s: the file was read: %v, want %v", header, read, want)
			}
		}
	})
}

func TestANewKeySignsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, replace := fromFile(t, "jwt", keys[0])
		h := NewToken(m.Credentials, clock, newGuard(nil, "basic"))
		for _, order := range [][]string{{keys[1], keys[0]}, {keys[0], keys[1]}} {
			replace(strings.Join(order, "\n"))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, newRequest("POST", basic("user:s3cret")))
			token := strings.TrimSuffix(strings.TrimPrefix(w.Body.String(), `{"token":"`), `"}`)
			if verify(token, NewCredentials(order[:1]), now) != nil || verify(token, NewCredentials(order[1:]), now) == nil {
				t.Errorf("%q is not signed with the first line of %v", token, order)
			}
		}
	})
}

// BenchmarkCheck is what a lock adds to a probe that it admits.
func BenchmarkCheck(b *testing.B) {
	for method := range lines {
		b.Run(method, func(b *testing.B) {
			guard, r := newGuard(nil, method), newRequest("GET")
			r.Header = Header(method, lines[method][0], now)
			b.ReportAllocs()
			for b.Loop() {
				if refused := guard.Check(r); refused != nil {
					b.Fatal(refused.reason)
				}
			}
		})
	}
}
