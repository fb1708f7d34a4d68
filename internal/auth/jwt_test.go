package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	trusted      = "<nil>"
	errSignature = "not a token signed with a key of ours"
	errHeader    = "the header is not a JSON object with alg HS256 and without crit"
	errClaims    = "the claims are not a JSON object with a number exp"
	errExpired   = "expired"
	errEarly     = "not valid yet"
	goodHeader   = `{"alg":"HS256"}`
	goodClaims   = `{"exp":2000000001}` // half a second after now
)

var b64 = base64.RawURLEncoding.EncodeToString

func mac(signed, key string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(signed))
	return h.Sum(nil)
}

// sealText puts a right signature behind any text.
func sealText(signed, key string) string { return signed + "." + b64(mac(signed, key)) }

// seal makes a token of any header and claims, with a right signature.
func seal(header, claims, key string) string {
	return sealText(b64([]byte(header))+"."+b64([]byte(claims)), key)
}

// wants this verdict over a token, of keys unless others are given.
func wants(t *testing.T, name, token string, now time.Time, want string, others ...string) {
	t.Helper()
	if others == nil {
		others = keys
	}
	if got := fmt.Sprint(verify(token, NewCredentials(others), now)); got != want {
		t.Errorf("%s: %.300q: got %s, want %s", name, token, got, want)
	}
}

// RFC 7515, appendix A.1: JSON with line ends, a binary key.
func TestTheVectorOfRFC7515(t *testing.T) {
	t.Parallel()
	const token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" +
		".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ" +
		".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	key, _ := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
	wants(t, "before exp", token, time.Unix(1300819379, 0), trusted, string(key))
	wants(t, "at exp", token, time.Unix(1300819380, 0), errExpired, string(key))
}

type attack struct{ name, token, want string }

// attacks are tokens whose signature is right unless their name says otherwise:
// that alone must not do.
func attacks() (all []attack) {
	add := func(want, name, token string) { all = append(all, attack{name, token, want}) }
	header := func(want string, headers ...string) {
		for _, h := range headers {
			add(want, "header: "+h, seal(h, goodClaims, keys[0]))
		}
	}
	claims := func(want string, claims ...string) {
		for _, c := range claims {
			add(want, "claims: "+c[:min(len(c), 99)], seal(goodHeader, c, keys[0]))
		}
	}

	header(trusted, goodHeader, `{"typ":"JOSE+JSON","alg":"HS256"}`, " {\r\n\t\"alg\" : \"HS256\" } \n",
		`{"\u0061lg":"HS\u003256"}`, `{"alg":"HS256","ALG":"none"}`, `{"alg":"none","alg":"HS256"}`,
		`{"alg":"HS256","jku":"http://127.0.0.1/","x5u":"http://127.0.0.1/","kid":"../../dev/null' OR 1"}`)
	for _, alg := range []string{
		`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, `"HS384"`, `"HS512"`, `"hs256"`, `"Hs256"`, `"HS256 "`, `" HS256"`, `"HS256\u0000"`,
		`"RS256"`, `"ES256"`, `"PS256"`, `"EdDSA"`, `"dir"`, `null`, `256`, `true`, `["HS256"]`, `{"HS256":1}`,
	} {
		header(errHeader, `{"alg":`+alg+`,"typ":"JWT"}`)
	}
	header(errHeader, `{"typ":"JWT"}`, `{}`, `{"ALG":"HS256"}`, `{"alg":"HS256","alg":"none"}`, `{"alg":"HS256","\u0061lg":"none"}`)
	header(errHeader, `{"alg":"HS256","crit":["exp"],"exp":1}`, `{"alg":"HS256","crit":[]}`, `{"alg":"HS256","crit":null}`,
		`{"alg":"HS256","cr\u0069t":["b64"]}`, `{"alg":"HS256","b64":false,"crit":["b64"]}`) // RFC 7797
	header(errHeader, "", "null", `"HS256"`, `["alg","HS256"]`, `{"alg":"HS256"`, "\ufeff"+goodHeader, "{\"alg\":\"HS256\",\"x\":\"\xff\"}")
	for _, rest := range []string{"x", "{}", "}", ",", "null", "\x00", goodHeader} {
		header(errHeader, goodHeader+rest)
		claims(errClaims, goodClaims+rest)
	}

	for exp, want := range map[string]string{
		"2000000000": errExpired, "2000000001": trusted, "0": errExpired, "-0": errExpired, "-2000000001": errExpired, "4294967296": trusted,
		"2000000000.499999": errExpired, "2000000000.500001": trusted, "2000000000.5": errExpired, "2000000000.0": errExpired,
		"2E9": errExpired, "2.1E+9": trusted, "21000000000e-1": trusted, "1E3": errExpired, "1e-400": errExpired, "-1e400": errExpired,
		"1e300": trusted, "1e400": trusted, "1e99999999999999999999": trusted, "1e-99999999999999999999": errExpired, "-1e300": errExpired,
		"9223372036854775808": trusted, "18446744073709551616": trusted, "-9223372036854775809": errExpired, strings.Repeat("9", 1000): trusted,
		`"2000000001"`: errClaims, "null": errClaims, "true": errClaims, "[2000000001]": errClaims, `{"exp":2000000001}`: errClaims,
		"": errClaims, "Infinity": errClaims, "NaN": errClaims, "0x77359401": errClaims, "2_000_000_001": errClaims, "+2000000001": errClaims,
	} {
		claims(want, `{"exp":`+exp+`}`)
	}
	for nbf, want := range map[string]string{
		"2000000000": trusted, "2000000000.5": trusted, "2000000000.499999": trusted, "2000000000.500001": errEarly, "2000000001": errEarly,
		"1e300": errEarly, "1e400": errEarly, "-1e400": trusted, "-1": trusted, `"1"`: errClaims, "null": errClaims, "[]": errClaims,
	} {
		claims(want, `{"exp":2000000001,"nbf":`+nbf+`}`)
	}
	claims(errClaims, `{"sub":"a"}`, `{}`, `{"EXP":2000000001}`)
	claims(errExpired, `{"EXP":2000000001,"exp":1}`, `{"exp":1,"nbf":2000000001}`)
	claims(trusted, `{"exp":2000000001,"EXP":1}`, `{"exp":2000000001,"nbf":1,"NBF":2000000001}`,
		`{"exp":1,"exp":2000000001}`, `{"exp":2000000001,"exp":2000000001}`, `{"exp":1,"e\u0078p":2000000001}`, `{"e\u0078p":2000000001}`,
		`{"exp":2000000001,"xexp":1,"exp ":2,"":3," ":4,"exp\u0000":5}`, `{"exp":2000000001,"x":{"a":1,"A":2,"a":3,"exp":0}}`,
		`{"exp":2000000001,"iat":9e999,"iss":null,"sub":{},"aud":[1,"\ud800"],"jti":-0.0}`,
		`{"exp":2000000001,"x":`+strings.Repeat("[", 6000)+strings.Repeat("]", 6000)+`}`) // as deep as a header allows
	claims(errClaims, `{"exp":2000000001,"x":`+strings.Repeat("[", 1e6)+strings.Repeat("]", 1e6)+`}`, `{"exp":2000000001,"x":`+strings.Repeat(`{"a":`, 1e5),
		"", "null", "2000000001", `["exp",2000000001]`, `[{"exp":2000000001}]`, "\ufeff"+goodClaims,
		"{\"exp\":2000000001,\"x\":\"\xc3\x28\"}", "{\"exp\":2000000001,\"\xff\":1}", `{"exp":2000000001/**/}`)

	// The form. h, c and s are what a right token consists of.
	h, c := b64([]byte(goodHeader)), b64([]byte(goodClaims))
	right := mac(h+"."+c, keys[0])
	s := b64(right)
	good := h + "." + c + "." + s
	for i, want := range []string{errHeader, errClaims, errSignature} {
		for _, mark := range []string{"\n", "\r", "\r\n", " ", "\t", "\x00", "=", "==", "+", "/", "%", "é"} {
			for _, at := range []int{0, 4, 99} {
				parts := []string{h, c, s}
				at = min(at, len(parts[i]))
				parts[i] = parts[i][:at] + mark + parts[i][at:]
				if i < 2 {
					parts[2] = b64(mac(parts[0]+"."+parts[1], keys[0]))
				}
				add(want, fmt.Sprintf("form: %q in part %d at %d", mark, i, at), strings.Join(parts, "."))
			}
		}
	}
	for _, loose := range []string{goodHeader + " ", goodHeader + "  "} { // 16 bytes leave four bits over, 17 leave two
		add(trusted, "form: header with bits to spare", sealText(b64([]byte(loose))+"."+c, keys[0]))
		add(errHeader, "form: header with loose bits", sealText(next(b64([]byte(loose)))+"."+c, keys[0]))
	}
	add(errClaims, "form: claims with loose bits", sealText(h+"."+next(b64([]byte(goodClaims+" "))), keys[0]))
	add(errSignature, "form: signature with loose bits", h+"."+c+"."+next(s))
	add(trusted, "form: base64url", seal(goodHeader, `{"exp":2000000001,"x":"~~~???"}`, keys[0])) // has - and _
	for _, token := range []string{
		"", ".", "..", "h", h, h + "." + c, "..." + good, good + ".", "." + good, good + "." + s, h + "." + c + "..", h + ".." + c + "." + s,
		sealText(h, keys[0]), sealText(h+"."+c+"."+c, keys[0]), "Bearer " + good, strings.ReplaceAll(good, ".", "\u3002"),
		"eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA", // a JWE (RFC 7516)
		`{"payload":"` + c + `","protected":"` + h + `","signature":"` + s + `"}`,
	} {
		add(errSignature, "form: "+token[:min(len(token), 99)], token)
	}
	add(errHeader, "form: three empty parts, signed", sealText(".", keys[0]))
	add(errHeader, "form: no header", sealText("."+c, keys[0]))

	for name, bytes := range map[string][]byte{
		"empty": nil, "its first byte": right[:1], "its first half": right[:16], "all but its last byte": right[:31],
		"one byte more": append(right[:32:32], 0), "of both keys in one": mac(h+"."+c, keys[0]+keys[1]), "of an empty key": mac(h+"."+c, ""), "of the start of the key": mac(h+"."+c, keys[0][:31]),
		"without a dot between the parts": mac(h+c, keys[0]), "of the claims alone": mac(c, keys[0]),
		"of the decoded parts": mac(goodHeader+"."+goodClaims, keys[0]),
	} {
		add(errSignature, "signature: "+name, h+"."+c+"."+b64(bytes))
	}
	add(errSignature, "signature: another header's", b64([]byte(goodHeader+" "))+"."+c+"."+s)
	add(errSignature, "signature: other claims'", h+"."+b64([]byte(`{"exp":2000000002}`))+"."+s)
	add(errSignature, "signature: none, and alg none", b64([]byte(`{"alg":"none"}`))+"."+c+".")
	const theirs = "the-key-that-an-attacker-has-made"
	jwk := `{"alg":"HS256","jwk":{"kty":"oct","k":"` + b64([]byte(theirs)) + `"}}`
	add(errSignature, "signature: of the key in the header", seal(jwk, goodClaims, theirs))
	add(trusted, "signature: ours, and another key in the header", seal(jwk, goodClaims, keys[0]))
	return all
}

// next changes the last character of base64 to the one after it: some of the
// bits that decode to nothing, if there are any.
func next(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + alphabet[last+1:last+2]
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for _, tt := range attacks() {
		wants(t, tt.name, tt.token, now, tt.want)
	}
}

func TestEveryKeyVerifiesInAnyOrderAndNoneDoesNot(t *testing.T) {
	t.Parallel()
	token := seal(goodHeader, goodClaims, keys[1])
	wants(t, "first", token, now, trusted, keys[1], keys[0])
	wants(t, "last", token, now, trusted, keys[0], keys[1])
	wants(t, "in between", token, now, trusted, keys[0], keys[1], keys[0])
	wants(t, "another key", token, now, errSignature, keys[0])
	wants(t, "no key", token, now, errSignature, []string{}...)
}

// FuzzVerify lets a token in only if another, slower reading of the standards
// does. With resign the signature is made right first, for what lies behind it.
func FuzzVerify(f *testing.F) {
	for _, a := range attacks() {
		if len(a.token) < 4<<10 { // longer ones are slow to vary
			f.Add(a.token, false)
			f.Add(a.token, true)
		}
	}
	f.Fuzz(func(t *testing.T, token string, resign bool) {
		if dot := strings.LastIndexByte(token, '.'); resign && dot >= 0 {
			token = sealText(token[:dot], keys[1])
		}
		if verify(token, NewCredentials(keys), now) == nil && !mayBeTrusted(token) {
			t.Fatalf("%q was let in", token)
		}
	})
}

var compact = regexp.MustCompile(`\A([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})\z`)

func mayBeTrusted(token string) bool {
	parts := compact.FindStringSubmatch(token)
	if parts == nil || token != sealText(parts[1]+"."+parts[2], keys[0]) && token != sealText(parts[1]+"."+parts[2], keys[1]) {
		return false
	}
	var members [2]map[string]any
	for i, part := range parts[1:3] {
		raw, err := base64.URLEncoding.DecodeString(part + strings.Repeat("=", -len(part)&3))
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		if err != nil || b64(raw) != part || !json.Valid(raw) || d.Decode(&members[i]) != nil {
			return false
		}
	}
	// Verify reads float64, which tells 0.24 microseconds apart.
	within := func(v any, least, most float64) bool {
		n, ok := v.(json.Number)
		f, _, err := big.ParseFloat(n.String(), 10, 64, big.ToNearestEven)
		if err != nil { // an exponent beyond an int64, of which it has no opinion
			return ok
		}
		after, _ := f.Sub(f, big.NewFloat(2_000_000_000.5)).Float64()
		return least-1e-6 <= after && after <= most+1e-6
	}
	_, crit := members[0]["crit"]
	nbf, early := members[1]["nbf"]
	return members[0]["alg"] == "HS256" && !crit && within(members[1]["exp"], 0, math.Inf(1)) && (!early || within(nbf, math.Inf(-1), 0))
}
