//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	missing = `{"message":"Token is missing!"}`
	invalid = `{"message":"Token is invalid!"}`
)

func TestCurlOpensEveryLockAndIsRefusedWithoutItsKey(t *testing.T) {
	const (
		plain = "text/plain; charset=utf-8"
		json  = "application/json"
	)
	var (
		user, access = newKey(), newKey()
		password     = newKey() + ":pässword" // RFC 7617: UTF-8, and colons after the first
		secret       = newKey()
		key          = newKey()
		crt          = newCertificate(t, ecdsaKey(t))
		ca           = written(t, crt.cert)
	)
	keep(authorization("basic", user+":"+password))
	basic := []string{"HEALTHD_BASIC=" + user + ":" + password}
	aksk := []string{"HEALTHD_AKSK=" + access + ":" + secret}
	jwt := slices.Concat(basic, aksk, []string{"HEALTHD_JWT_SECRET=" + key})
	locks := map[string][]string{
		"basic":     append(basic, "HEALTHD_AUTH=basic"),
		"aksk":      append(aksk, "HEALTHD_AUTH=aksk"),
		"jwt":       append(jwt, "HEALTHD_AUTH=jwt"),
		"every one": append(jwt, "HEALTHD_AUTH=basic,aksk,jwt"),
		"no mint":   {"HEALTHD_AUTH=jwt", "HEALTHD_JWT_SECRET=" + key},
	}

	// What curl reads from a file: no other process sees it.
	login := func(user, password string) string { return fmt.Sprintf("user = %q\n", user+":"+password) }
	header := func(line string) string { return fmt.Sprintf("header = %q\n", line) }
	keys := func(access, secret string) string {
		return header("X-Access-Key: "+access) + header("X-Secret-Key: "+secret)
	}
	const post = "request = POST\n"

	type want struct {
		code                         int
		challenge, contentType, body string
	}
	var (
		open         = want{200, "", json, healthy}
		issued       = want{200, "", json, "a token"}
		loginFirst   = want{401, `Basic realm="Login Required", charset="UTF-8"`, plain, "Could not verify"}
		unauthorized = want{401, `AccessKey realm="Login Required"`, json, `{"message":"Unauthorized"}`}
		noToken      = want{403, "Bearer", json, missing}
		badToken     = want{403, `Bearer error="invalid_token"`, json, invalid}
	)
	for _, transport := range []struct {
		name, proto, scheme string
		env, args           []string
	}{
		{"HTTP/1.1", "HTTP/1.1", "http", nil, []string{"--http1.1"}},
		{"HTTP/2 with prior knowledge", "HTTP/2", "http", nil, []string{"--http2-prior-knowledge"}},
		{"TLS, HTTP/1.1", "HTTP/1.1", "https", crt.install(t), []string{"--cacert", ca, "--http1.1"}},
		{"TLS, HTTP/2 by ALPN", "HTTP/2", "https", crt.install(t), []string{"--cacert", ca, "--http2"}},
	} {
		at := make(map[string]string)
		for name, env := range locks {
			at[name] = transport.scheme + "://" + start(t, slices.Concat(env, transport.env)).addr
		}
		ask := func(t *testing.T, lock, path, config string, want want) (body string) {
			t.Helper()
			args := append([]string{"-K", written(t, config)}, transport.args...)
			status, got, body := curl(t, append(args, at[lock]+path)...)
			if !strings.HasPrefix(status, fmt.Sprintf("%s %d", transport.proto, want.code)) {
				t.Errorf("status %q, want %s %d", status, transport.proto, want.code)
			}
			for name, value := range map[string]string{
				"WWW-Authenticate": want.challenge,
				"Content-Type":     want.contentType,
				"Content-Length":   strconv.Itoa(len(body)),
				"Cache-Control":    "no-store",
			} {
				// Every method that is on challenges; the row has that of the one that words it.
				values := got.Values(name)
				if name == "WWW-Authenticate" && slices.Contains(values, value) {
					values = []string{value}
				}
				if strings.Join(values, "|") != value {
					t.Errorf("%s: %q, want %q", name, values, value)
				}
			}
			switch c, err := verify(body, key); {
			case want == issued:
				if err != nil || c.Sub != user && c.Sub != access {
					t.Errorf("body %q: %+v, %v", body, c, err)
				}
			case body != want.body:
				t.Errorf("body %q, want %q", body, want.body)
			}
			return body
		}
		t.Run(transport.name, func(t *testing.T) {
			body := ask(t, "jwt", "/token", post+login(user, password), issued)
			token := strings.TrimSuffix(strings.TrimPrefix(body, `{"token":"`), `"}`)
			for _, row := range []struct {
				name, lock, path, config string
				want                     want
			}{
				{"Basic, right", "basic", "/health", login(user, password), open},
				{"Basic, wrong password", "basic", "/health", login(user, newKey()), loginFirst},
				{"Basic, wrong user", "basic", "/health", login(newKey(), password), loginFirst},
				{"Basic, missing", "basic", "/health", "", loginFirst},

				{"keys, right", "aksk", "/health", keys(access, secret), open},
				{"keys, wrong secret", "aksk", "/health", keys(access, newKey()), unauthorized},
				{"keys, wrong access key", "aksk", "/health", keys(newKey(), secret), unauthorized},
				{"keys, half missing", "aksk", "/health", header("X-Access-Key: " + access), unauthorized},
				{"keys, missing", "aksk", "/health", "", unauthorized},

				{"token as Bearer", "jwt", "/health", "oauth2-bearer = " + token, open},
				{"token, bare", "jwt", "/health", header("Authorization: " + token), open},
				{"token, wrong", "jwt", "/health", "oauth2-bearer = " + mint(newKey(), map[string]any{"exp": 1e300}), badToken},
				{"token, missing", "jwt", "/health", "", noToken},
				{"Bearer and nothing", "jwt", "/health", header("Authorization: Bearer"), noToken},
				{"Basic opens no lock of jwt", "jwt", "/health", login(user, password), noToken},

				{"POST /token with Basic", "jwt", "/token", post + login(user, password), issued},
				{"POST /token with keys", "jwt", "/token", post + keys(access, secret), issued},
				{"POST /token, Content-Length 0", "jwt", "/token", "data = \"\"\n" + keys(access, secret), issued},
				{"POST /token, wrong", "jwt", "/token", post + keys(access, newKey()), unauthorized},
				{"POST /token, missing", "jwt", "/token", post, loginFirst},
				{"POST /token with a token", "jwt", "/token", post + "oauth2-bearer = " + token, loginFirst},

				{"any of three: Basic", "every one", "/health", login(user, password), open},
				{"any of three: keys", "every one", "/health", keys(access, secret), open},
				{"any of three: a token", "every one", "/health", "oauth2-bearer = " + token, open},
				{"one of three, wrong", "every one", "/health", keys(access, newKey()), unauthorized},
				{"none of three", "every one", "/health", "", loginFirst},
			} {
				t.Run(row.name, func(t *testing.T) { ask(t, row.lock, row.path, row.config, row.want) })
			}
			// The answer does not wait for the body. Without TLS that is too fast for
			// HTTP/2 in curl 7.88, which drops an answer that comes before it has
			// sent the body (RFC 9113, section 8.1, says: must not).
			if transport.proto == "HTTP/1.1" || transport.scheme == "https" {
				ask(t, "jwt", "/token", "data = x\n"+keys(access, secret), issued)
			}
			for name, row := range map[string]struct{ lock, config, code, allow string }{
				"GET /token":        {"jwt", login(user, password), " 405", "POST"},
				"no open mint":      {"no mint", post, " 404", ""},
				"no mint for a key": {"basic", post + login(user, password), " 404", ""},
			} {
				status, got, _ := curl(t, append(transport.args, "-K", written(t, row.config), at[row.lock]+"/token")...)
				if !strings.Contains(status, row.code) || got.Get("Allow") != row.allow {
					t.Errorf("%s: %q, Allow %q", name, status, got.Get("Allow"))
				}
			}
		})
	}
}

// Some clients send a credential only once they are asked for one of its kind.
func TestAClientThatWaitsForItsChallengeFindsItBehindAnother(t *testing.T) {
	pair := newPair()
	user, password, _ := strings.Cut(pair, ":")
	// Not with jwt first, whose 403 is no question to them.
	for _, order := range []string{"basic,aksk,jwt", "aksk,jwt,basic"} {
		i := start(t, []string{"HEALTHD_AUTH=" + order, "HEALTHD_BASIC=" + pair, "HEALTHD_AKSK=" + newPair(), "HEALTHD_JWT_SECRET=" + newKey()})
		url := "http://" + i.addr + "/health"
		config := written(t, fmt.Sprintf("user = %q\nanyauth\n", pair))
		if got := output(t, nil, "curl", "-sS", "--max-time", "10", "-K", config, url); got != healthy {
			t.Errorf("%s: curl --anyauth gets %q", order, got)
		}
		rc := written(t, "user = "+user+"\npassword = "+password+"\n")
		if got := output(t, []string{"WGETRC=" + rc}, "wget", "-q", "-T", "10", "-t", "1", "-O", "-", url); got != healthy {
			t.Errorf("%s: wget gets %q", order, got)
		}
	}
}
