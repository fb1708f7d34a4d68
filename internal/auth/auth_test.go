package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/healthd/internal/reload"
)

func clock() time.Time { return now }

var (
	now  = time.Unix(2_000_000_000, 500_000_000)
	keys = []string{"the-first-key-of-thirty-two-bytes", "the-second-key-of-thirty-two-bytes"}

	lines = map[string][]string{
		"basic": {"user:s3cret", "other:pa:ss:", "jürgen:pässwörd€"},
		"aksk":  {"AKID:s3cret", "AK2:with:colon"},
		"jwt":   keys,
	}
)

// newMethod is the method that -auth calls by name, with a clock at now.
func newMethod(name string, value *reload.Value[Credentials]) Method {
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
		g.Methods = append(g.Methods, newMethod(name, reload.Fixed(NewCredentials(lines[name]))))
	}
	return g
}

// newLog writes lines without a time.
func newLog(log *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
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

// The answers. No other header is set.
type reply struct {
	code                         int
	challenge, contentType, body string
}

var (
	admitted     = reply{200, "", "", "in"}
	notBasic     = reply{401, `Basic realm="Login Required", charset="UTF-8"`, "text/plain; charset=utf-8", "Could not verify"}
	notAKSK      = reply{401, `AccessKey realm="Login Required"`, "application/json", `{"message":"Unauthorized"}`}
	tokenMissing = reply{403, "Bearer", "application/json", `{"message":"Token is missing!"}`}
	tokenInvalid = reply{403, `Bearer error="invalid_token"`, "application/json", `{"message":"Token is invalid!"}`}
)

func TestGuard(t *testing.T) {
	t.Parallel()
	const (
		access, wrongAccess = "X-Access-Key: AKID", "X-Access-Key: akid"
		secret, wrongSecret = "X-Secret-Key: s3cret", "X-Secret-Key: s3creT"
		bearer              = "Authorization: Bearer "
	)
	var (
		token      = mint(keys[0], "a", now, time.Minute)
		wrongToken = mint("some-other-key-of-thirty-two-bytes", "a", now, time.Minute)
		right      = basic("user:s3cret")
		wrong      = basic("user:wrong")
	)
	for _, tt := range []struct {
		name    string
		methods string
		headers []string
		want    reply
		subject string
		reason  string // in the log; its method is of want
	}{
		{"basic: no header is refused", "basic", nil, notBasic, "", "no credential"},
		{"basic: an empty header is none", "basic", []string{"Authorization: "}, notBasic, "", "no credential"},
		{"basic: another scheme is none", "basic", []string{"Authorization: Digest dXNlcjpzM2NyZXQ="}, notBasic, "", "no credential"},
		{"basic: a method that is off is none", "basic", []string{access, secret}, notBasic, "", "no credential"},
		{"basic: the right pair is admitted", "basic", []string{right}, admitted, "user", ""},
		{"basic: every line is admitted", "basic", []string{basic(lines["basic"][1])}, admitted, "other", ""},
		{"basic: a password may hold colons, the first one parts", "basic", []string{basic("other:pa:ss:")}, admitted, "other", ""},
		{"basic: UTF-8 is admitted", "basic", []string{basic("jürgen:pässwörd€")}, admitted, "jürgen", ""},
		{"basic: Latin-1 is another password", "basic", []string{basic("j\xfcrgen:p\xe4ssw\xf6rd\x80")}, notBasic, "", "wrong credential"},
		{"basic: more spaces are as good (RFC 9110, 11.4)", "basic", []string{strings.Replace(right, "Basic ", "Basic   ", 1)}, admitted, "user", ""},
		{"basic: the scheme is of any case", "basic", []string{strings.Replace(right, "Basic", "bASIC", 1)}, admitted, "user", ""},
		{"basic: a wrong password is refused", "basic", []string{wrong}, notBasic, "", "wrong credential"},
		{"basic: a wrong user is refused", "basic", []string{basic("User:s3cret")}, notBasic, "", "wrong credential"},
		{"basic: an empty password is refused", "basic", []string{basic("user:")}, notBasic, "", "wrong credential"},
		{"basic: an empty pair is refused", "basic", []string{basic(":")}, notBasic, "", "wrong credential"},
		{"basic: the start of a password is refused", "basic", []string{basic("user:s3cre")}, notBasic, "", "wrong credential"},
		{"basic: a longer password is refused", "basic", []string{basic("user:s3cret\x00")}, notBasic, "", "wrong credential"},
		{"basic: halves of two lines are refused", "basic", []string{basic("other:s3cret")}, notBasic, "", "wrong credential"},
		{"basic: a line without its colon is refused", "basic", []string{basic("users3cret")}, notBasic, "", "wrong credential"},
		{"basic: the scheme alone is refused", "basic", []string{"Authorization: Basic"}, notBasic, "", "wrong credential"},
		{"basic: what is no base64 is refused", "basic", []string{"Authorization: Basic user:s3cret"}, notBasic, "", "wrong credential"},
		{"basic: two headers are refused, though both are right", "basic", []string{right, right}, notBasic, "", "twice"},

		{"aksk: no header is refused", "aksk", nil, notAKSK, "", "no credential"},
		{"aksk: a method that is off is none", "aksk", []string{right}, notAKSK, "", "no credential"},
		{"aksk: the right pair is admitted", "aksk", []string{access, secret}, admitted, "AKID", ""},
		{"aksk: every line is admitted, its secret with colons", "aksk", []string{"X-Access-Key: AK2", "X-Secret-Key: with:colon"}, admitted, "AK2", ""},
		{"aksk: the colon does not move", "aksk", []string{"X-Access-Key: AK2:with", "X-Secret-Key: colon"}, notAKSK, "", "wrong credential"},
		{"aksk: the colon does not move past the start", "aksk", []string{"X-Access-Key: ", "X-Secret-Key: AKID:s3cret"}, notAKSK, "", "wrong credential"},
		{"aksk: a wrong secret is refused", "aksk", []string{access, wrongSecret}, notAKSK, "", "wrong credential"},
		{"aksk: a wrong access key is refused", "aksk", []string{wrongAccess, secret}, notAKSK, "", "wrong credential"},
		{"aksk: halves of two lines are refused", "aksk", []string{"X-Access-Key: AK2", secret}, notAKSK, "", "wrong credential"},
		{"aksk: an access key alone is refused", "aksk", []string{access}, notAKSK, "", "wrong credential"},
		{"aksk: a secret key alone is refused", "aksk", []string{secret}, notAKSK, "", "wrong credential"},
		{"aksk: two empty headers are refused", "aksk", []string{"X-Access-Key: ", "X-Secret-Key: "}, notAKSK, "", "wrong credential"},
		{"aksk: two access keys are refused, though both are right", "aksk", []string{access, access, secret}, notAKSK, "", "twice"},
		{"aksk: two secret keys are refused, though the first is right", "aksk", []string{access, secret, wrongSecret}, notAKSK, "", "twice"},

		{"jwt: no header is a missing token", "jwt", nil, tokenMissing, "", "no credential"},
		{"jwt: an empty header is a missing token", "jwt", []string{"Authorization: "}, tokenMissing, "", "no credential"},
		{"jwt: Bearer alone is a missing token", "jwt", []string{"Authorization: Bearer"}, tokenMissing, "", "no credential"},
		{"jwt: Bearer and spaces are a missing token", "jwt", []string{"Authorization: bearer   "}, tokenMissing, "", "no credential"},
		{"jwt: another scheme is a missing token", "jwt", []string{"Authorization: Digest " + token}, tokenMissing, "", "no credential"},
		{"jwt: Basic is a missing token", "jwt", []string{right}, tokenMissing, "", "no credential"},
		{"jwt: Basic alone is no bare token", "jwt", []string{"Authorization: Basic"}, tokenMissing, "", "no credential"},
		{"jwt: a token is admitted", "jwt", []string{bearer + token}, admitted, "", ""},
		{"jwt: a token of the second key is admitted", "jwt", []string{bearer + mint(keys[1], "a", now, time.Minute)}, admitted, "", ""},
		{"jwt: the scheme is of any case", "jwt", []string{"Authorization: bEARER " + token}, admitted, "", ""},
		{"jwt: more spaces are as good (RFC 9110, 11.4)", "jwt", []string{bearer + "  " + token}, admitted, "", ""},
		{"jwt: the bare token is admitted", "jwt", []string{"Authorization: " + token}, admitted, "", ""},
		{"jwt: a wrong token is invalid", "jwt", []string{bearer + wrongToken}, tokenInvalid, "", "wrong signature"},
		{"jwt: a wrong bare token is invalid", "jwt", []string{"Authorization: " + wrongToken}, tokenInvalid, "", "wrong signature"},
		{"jwt: nonsense is invalid", "jwt", []string{bearer + "s3cret"}, tokenInvalid, "", "not three parts of base64url"},
		{"jwt: Bearer twice is invalid", "jwt", []string{bearer + "Bearer " + token}, tokenInvalid, "", "not three parts of base64url"},
		{"jwt: two tokens in a header are invalid", "jwt", []string{bearer + token + ", " + token}, tokenInvalid, "", "not three parts of base64url"},
		{"jwt: an expired token is invalid", "jwt", []string{bearer + mint(keys[0], "a", now, 0)}, tokenInvalid, "", "expired"},
		{"jwt: two headers are refused, though both are right", "jwt", []string{bearer + token, bearer + token}, tokenInvalid, "", "twice"},
		{"jwt: two headers are refused, though the second is empty", "jwt", []string{bearer + token, "Authorization: "}, tokenInvalid, "", "twice"},

		{"several: the first admits", "basic,aksk,jwt", []string{right}, admitted, "user", ""},
		{"several: the second admits", "basic,aksk,jwt", []string{access, secret}, admitted, "AKID", ""},
		{"several: the last admits", "basic,aksk,jwt", []string{bearer + token}, admitted, "", ""},
		{"several: one that is right makes up for one that is wrong", "basic,aksk", []string{wrong, access, secret}, admitted, "AKID", ""},
		{"several: one that is wrong later does not matter", "basic,aksk", []string{right, access}, admitted, "user", ""},
		{"several: with nothing presented the first named words it", "jwt,basic,aksk", nil, tokenMissing, "", "no credential"},
		{"several: the only one presented words it, a password", "jwt,aksk,basic", []string{wrong}, notBasic, "", "wrong credential"},
		{"several: the only one presented words it, a key", "jwt,basic,aksk", []string{access}, notAKSK, "", "wrong credential"},
		{"several: the only one presented words it, a token", "basic,aksk,jwt", []string{bearer + wrongToken}, tokenInvalid, "", "wrong signature"},
		{"several: the first named of those presented words it", "jwt,aksk,basic", []string{wrong, wrongAccess, secret}, notAKSK, "", "wrong credential"},
		{"several: an empty header is not presented", "jwt,aksk", []string{"Authorization: ", access}, notAKSK, "", "wrong credential"},
		{"several: two headers are refused, worded by the first named", "basic,jwt", []string{right, bearer + token}, notBasic, "", "twice"},
		{"several: the same in the other order", "jwt,basic", []string{right, bearer + token}, tokenInvalid, "", "twice"},
		{"several: nothing makes up for two headers", "aksk,basic", []string{access, secret, right, right}, notAKSK, "", "twice"},
		{"several: two headers later leave the wording to the first presented", "basic,aksk", []string{wrong, access, access, secret}, notBasic, "", "wrong credential"},
		{"several: two headers of a method that is off are refused, too", "basic", []string{right, access, access}, notBasic, "", "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			g := newGuard(newLog(&log), tt.methods)
			r := newRequest("GET", tt.headers...)
			if refused := g.Check(r); (refused == nil) != (tt.want == admitted) || refused == nil && g.subject(r) != tt.subject {
				t.Errorf("Check tells %+v, and the subject is %q", refused, g.subject(r))
			}
			w := httptest.NewRecorder()
			g.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write([]byte("in"))
			})).ServeHTTP(w, newRequest("GET", tt.headers...))
			if tt.want == admitted {
				if w.Code != 200 || w.Body.String() != "in" || log.Len() > 0 {
					t.Errorf("got %d %q, and %q in the log; want to be let in", w.Code, w.Body, &log)
				}
				return
			}
			tt.want.check(t, w)
			// The line is known to the byte: nothing that was presented is in it.
			method := map[reply]string{notBasic: "basic", notAKSK: "aksk", tokenMissing: "jwt", tokenInvalid: "jwt"}[tt.want]
			reason := tt.reason
			if reason == "twice" {
				reason = "duplicate credential header"
			}
			if strings.Contains(reason, " ") {
				reason = `"` + reason + `"`
			}
			line := fmt.Sprintf("level=WARN msg=refused auth=%s reason=%s remote=192.0.2.1:1234\n", method, reason)
			if log.String() != line {
				t.Errorf("the log holds\n%swant\n%s", &log, line)
			}
		})
	}
}

// check wants this reply and, besides its own, no header.
func (a reply) check(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != a.code || w.Body.String() != a.body {
		t.Errorf("got %d %q, want %d %q", w.Code, w.Body, a.code, a.body)
	}
	want := http.Header{
		"Cache-Control":  {"no-store"},
		"Content-Length": {fmt.Sprint(len(a.body))},
		"Content-Type":   {a.contentType},
	}
	if a.challenge != "" {
		want["Www-Authenticate"] = []string{a.challenge}
	}
	got := w.Header().Clone()
	if challenges := got["Www-Authenticate"]; slices.Contains(challenges, a.challenge) {
		got["Www-Authenticate"] = []string{a.challenge} // those of other methods have their own test
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("headers are\n%v, want\n%v", got, want)
	}
}

func TestARefusalChallengesWithEveryMethodThatIsOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		methods string
		headers []string
		want    []string
	}{
		{"in their order", "aksk,jwt,basic", nil, []string{notAKSK.challenge, tokenMissing.challenge, notBasic.challenge}},
		{"each for what it was sent", "basic,jwt", []string{"Authorization: Bearer a.b.c"}, []string{notBasic.challenge, tokenInvalid.challenge}},
		{"alone", "jwt", []string{basic("a:b")}, []string{tokenMissing.challenge}},
	} {
		w := httptest.NewRecorder()
		newGuard(slog.New(slog.DiscardHandler), tt.methods).Handler(nil).ServeHTTP(w, newRequest("GET", tt.headers...))
		if got := w.Header()["Www-Authenticate"]; !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestARefusedHEADHasTheHeadersOfGET(t *testing.T) {
	t.Parallel()
	for methods, want := range map[string]reply{"basic": notBasic, "aksk": notAKSK, "jwt": tokenMissing} {
		srv := httptest.NewServer(newGuard(slog.New(slog.DiscardHandler), methods).Handler(nil))
		defer srv.Close()
		resp, err := srv.Client().Head(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		h := resp.Header
		if resp.StatusCode != want.code || resp.ContentLength != int64(len(want.body)) || h.Get("Content-Type") != want.contentType ||
			h.Get("WWW-Authenticate") != want.challenge || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %v, want %+v", methods, resp.StatusCode, h, want)
		}
	}
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	jwt := newGuard(nil, "jwt").Methods[0]
	for _, tt := range []struct {
		name    string
		methods string
		headers []string
		want    reply // of a refusal
		sub     string
	}{
		{"a user gets a token", "basic", []string{basic("user:s3cret")}, reply{}, `"user"`},
		{"an access key gets a token", "basic,aksk", []string{"X-Access-Key: AKID", "X-Secret-Key: s3cret"}, reply{}, `"AKID"`},
		{"the subject is UTF-8", "basic", []string{basic("jürgen:pässwörd€")}, reply{}, `"jürgen"`},
		{"nobody gets none", "basic", nil, notBasic, ""},
		{"a wrong user gets none", "basic,aksk", []string{basic("user:wrong")}, notBasic, ""},
		{"a wrong key gets none", "basic,aksk", []string{"X-Access-Key: AKID"}, notAKSK, ""},
		{"a token gets none", "basic", []string{"Authorization: Bearer " + mint(keys[0], "a", now, time.Minute)}, notBasic, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			NewToken(jwt.Value, clock, newGuard(slog.New(slog.DiscardHandler), tt.methods)).ServeHTTP(w, newRequest("POST", tt.headers...))
			if tt.want.code != 0 {
				tt.want.check(t, w)
				return
			}
			signed := seal(`{"alg":"HS256","typ":"JWT"}`, `{"iat":2000000000,"exp":2000001800,"sub":`+tt.sub+`}`, keys[0])
			reply{200, "", "application/json", `{"token":"` + signed + `"}`}.check(t, w)
			if err := verify(signed, NewCredentials(keys), now); err != nil {
				t.Errorf("its own verifier says %v", err)
			}
			if err := verify(signed, NewCredentials(keys), time.Unix(2000001800, 0)); err != errExpired {
				t.Errorf("30 minutes on: %v, want %v", err, errExpired)
			}
		})
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
// to replace them.
func fromFile(t *testing.T, name string, first string) (m Method, replace func(lines string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	replace = func(lines string) {
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(first)
	value, err := reload.New("FILE", slog.New(slog.DiscardHandler), func(contents [][]byte) (Credentials, error) {
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
	for name, pair := range map[string][2]string{
		"basic": {"user:old", "user:new"},
		"aksk":  {"AKID:old", "AKID:new"},
		"jwt":   {keys[0], keys[1]},
	} {
		m, replace := fromFile(t, name, pair[0])
		h := Guard{[]Method{m}, slog.New(slog.DiscardHandler)}.Handler(http.NotFoundHandler())
		code := func(line string) int {
			w := httptest.NewRecorder()
			r := newRequest("GET")
			r.Header = Header(name, line, now)
			h.ServeHTTP(w, r)
			return w.Code
		}
		if code(pair[0]) != 404 || code(pair[1]) == 404 {
			t.Errorf("%s: at first not the old credential alone is admitted", name)
		}
		replace(pair[0] + "\n" + pair[1])
		if code(pair[1]) != 404 || code(pair[0]) != 404 {
			t.Errorf("%s: of the old and the new credential not both are admitted", name)
		}
		replace(pair[1])
		if m.Refresh(); code(pair[1]) != 404 || code(pair[0]) == 404 {
			t.Errorf("%s: at last not the new credential alone is admitted", name)
		}
	}
}

func TestOnlyAPresentedCredentialHasFilesReadAnew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		headers []string
		want    bool
	}{
		"none":                        {nil, false},
		"one that no method here has": {[]string{"Authorization: Digest x"}, false},
		"a right one":                 {[]string{basic("user:old")}, false},
		"a wrong one":                 {[]string{basic("user:wrong")}, true},
	} {
		m, replace := fromFile(t, "basic", "user:old")
		replace("user:new")
		g := Guard{[]Method{m}, slog.New(slog.DiscardHandler)}
		g.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), newRequest("GET", tt.headers...))
		if read := m.Get()[0].Line == "user:new"; read != tt.want {
			t.Errorf("%s: its file was read: %v, want %v", name, read, tt.want)
		}
	}
}

func TestANewKeySignsAtOnce(t *testing.T) {
	t.Parallel()
	m, replace := fromFile(t, "jwt", keys[0])
	h := NewToken(m.Value, clock, newGuard(nil, "basic"))
	for _, order := range [][]string{{keys[1], keys[0]}, {keys[0], keys[1]}} {
		replace(strings.Join(order, "\n"))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, newRequest("POST", basic("user:s3cret")))
		token := strings.TrimSuffix(strings.TrimPrefix(w.Body.String(), `{"token":"`), `"}`)
		if verify(token, NewCredentials(order[:1]), now) != nil || verify(token, NewCredentials(order[1:]), now) == nil {
			t.Errorf("%q is not signed with the first line of %v", token, order)
		}
	}
}
