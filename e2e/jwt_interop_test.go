//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// pyjwt runs a program of Python, after "import jwt", and returns what it
// prints. Its environment carries the secrets.
func pyjwt(t *testing.T, env []string, program string) string {
	t.Helper()
	const try = `
try:
    import jwt
except ImportError:
    raise SystemExit("apt-get install python3-jwt")
import json, os, time
key, now = os.environ["KEY"], time.time()
`
	return output(t, env, "python3", "-I", "-c", try+program) // -I: Debian's modules and no others
}

func TestPythonsTokensAreJudgedByTheStandard(t *testing.T) {
	key := newKey()
	i := start(t, []string{"HEALTHD_AUTH=jwt", "HEALTHD_JWT_SECRET=" + key})
	printed := pyjwt(t, []string{"KEY=" + key, "OTHER=" + newKey()}, `
hour = 3600
def token(claims, key=key, alg="HS256", headers=None):
    return jwt.encode(claims, key, algorithm=alg, headers=headers)
print(json.dumps([
    ["exp",                      True,  token({"exp": int(now) + hour})],
    ["exp with a fraction",      True,  token({"exp": now + hour + .5})],
    ["exp past every clock",     True,  token({"exp": 1e300})],
    ["exp and nbf close by",     True,  token({"exp": now + 30.25, "nbf": now - .25})],
    ["nbf with a fraction",      True,  token({"exp": now + hour, "nbf": now - hour - .5, "iat": now - .5})],
    ["other claims",             True,  token({"exp": now + hour, "iss": "x", "aud": ["a", "b"], "o": {"exp": 1, "l": [None, True]}, "ü": "é\u2028"})],
    ["kid and another typ",      True,  token({"exp": now + hour}, headers={"kid": "1", "typ": "at+jwt"})],
    ["no typ",                   True,  token({"exp": now + hour}, headers={"typ": None})],
    ["no exp",                   False, token({"sub": "x"})],
    ["exp past by a fraction",   False, token({"exp": now - .25})],
    ["exp past",                 False, token({"exp": int(now) - hour})],
    ["exp before every clock",   False, token({"exp": -1e300})],
    ["exp a string",             False, token({"exp": str(int(now) + hour)})],
    ["nbf to come",              False, token({"exp": now + hour, "nbf": now + hour / 2 + .5})],
    ["another key",              False, token({"exp": now + hour}, key=os.environ["OTHER"])],
    ["HS384",                    False, token({"exp": now + hour}, alg="HS384")],
    ["HS512",                    False, token({"exp": now + hour}, alg="HS512")],
    ["none",                     False, token({"exp": now + hour}, key=None, alg="none")],
    ["crit",                     False, token({"exp": now + hour}, headers={"crit": ["x"], "x": 1})],
]))
`)
	var rows [][3]any
	if err := json.Unmarshal([]byte(printed), &rows); err != nil {
		t.Fatalf("%v: %q", err, printed)
	}
	for _, row := range rows {
		name, admitted, token := row[0].(string), row[1].(bool), row[2].(string)
		for _, scheme := range []string{"Bearer ", ""} {
			got, err := (&client{addr: i.addr, fresh: true, header: "Authorization: " + scheme + token + "\r\n"}).get("/health")
			if err != nil || admitted != (got.code == 200 && got.body == healthy) || !admitted && (got.code != 403 || got.body != invalid) {
				t.Errorf("%s: admitted should be %v: %+v, %v", name, admitted, got, err)
			}
		}
	}
}

func TestPythonVerifiesOurTokens(t *testing.T) {
	key, secret := newKey(), newKey()
	const subject = `zoë <"&\'> 雪`
	i := start(t, []string{"HEALTHD_AUTH=jwt", "HEALTHD_JWT_SECRET=" + key, "HEALTHD_BASIC=" + subject + ":" + secret})
	got, err := (&client{addr: i.addr, fresh: true, header: authorization("basic", subject+":"+secret)}).ask("POST", "/token")
	if err != nil || got.code != 200 {
		t.Fatalf("POST /token: %+v, %v", got, err)
	}
	printed := pyjwt(t, []string{"KEY=" + key, "OTHER=" + newKey(), "ANSWER=" + got.body}, `
token = json.loads(os.environ["ANSWER"])["token"]
claims = jwt.decode(token, key, algorithms=["HS256"], options={"require": ["exp", "iat", "sub"]})
assert sorted(claims) == ["exp", "iat", "sub"], sorted(claims)
assert claims["exp"] - claims["iat"] == 1800 and abs(claims["iat"] - now) < 20, claims
assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}, jwt.get_unverified_header(token)
try:
    jwt.decode(token, os.environ["OTHER"], algorithms=["HS256"])
except jwt.InvalidSignatureError:
    print(json.dumps(claims["sub"]))
`)
	var sub string
	if err := json.Unmarshal([]byte(printed), &sub); err != nil || sub != subject {
		t.Errorf("sub %q, want %q: %v", sub, subject, err)
	}
	if strings.TrimSpace(printed) == "" {
		t.Error("another key verifies it as well")
	}
}
