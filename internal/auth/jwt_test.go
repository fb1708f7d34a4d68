package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
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

// RFC 7515, appendix A.1: JSON with line ends, a binary key.
func TestTheVectorOfRFC7515(t *testing.T) {
	t.Parallel()
	const token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" +
		".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ" +
		".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	key, err := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
	if err != nil {
		t.Fatal(err)
	}
	for exp, want := range map[int64]error{1300819379: nil, 1300819380: errExpired} {
		if err := verify(token, NewCredentials([]string{string(key)}), time.Unix(exp, 0)); err != want {
			t.Errorf("at %d: %v, want %v", exp, err, want)
		}
	}
}

const (
	goodHeader = `{"alg":"HS256"}`
	goodClaims = `{"exp":2000000001}` // half a second after now
)

type attack struct {
	name  string
	token string
	want  error
}

// attacks are tokens whose signature is right unless their name says otherwise:
// that alone must not do.
func attacks() (all []attack) {
	add := func(want error, name, token string) { all = append(all, attack{name, token, want}) }
	header := func(want error, name, header string) { add(want, "header: "+name, seal(header, goodClaims, keys[0])) }
	claims := func(want error, name, claims string) { add(want, "claims: "+name, seal(goodHeader, claims, keys[0])) }

	header(nil, "alg HS256 alone will do", goodHeader)
	header(nil, "typ is ignored", `{"typ":"JOSE+JSON","alg":"HS256"}`)
	header(nil, "white space is JSON's", " {\r\n\t\"alg\" : \"HS256\" } \n")
	header(nil, "an escaped letter is the letter", `{"\u0061lg":"HS\u003256"}`)
	for _, alg := range []string{
		`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, `"HS384"`, `"HS512"`, `"hs256"`, `"Hs256"`, `"HS256 "`, `" HS256"`, `"HS256\u0000"`,
		`"RS256"`, `"ES256"`, `"PS256"`, `"EdDSA"`, `"dir"`, `null`, `256`, `true`, `["HS256"]`, `{"HS256":1}`,
	} {
		header(errHeader, "alg "+alg, `{"alg":`+alg+`,"typ":"JWT"}`)
	}
	header(errHeader, "no alg", `{"typ":"JWT"}`)
	header(errHeader, "no member", `{}`)
	header(errHeader, "ALG is not alg", `{"ALG":"HS256"}`)
	header(nil, "ALG beside alg", `{"alg":"HS256","ALG":"none"}`)
	header(nil, "alg twice, the last right", `{"alg":"none","alg":"HS256"}`)
	header(errHeader, "alg twice, the first right", `{"alg":"HS256","alg":"none"}`)
	header(errHeader, "alg twice, one of them escaped", `{"alg":"HS256","\u0061lg":"none"}`)
	header(errHeader, "crit", `{"alg":"HS256","crit":["exp"],"exp":1}`)
	header(errHeader, "crit empty", `{"alg":"HS256","crit":[]}`)
	header(errHeader, "crit null", `{"alg":"HS256","crit":null}`)
	header(errHeader, "crit escaped", `{"alg":"HS256","cr\u0069t":["b64"]}`)
	header(errHeader, "crit for an unencoded payload (RFC 7797)", `{"alg":"HS256","b64":false,"crit":["b64"]}`)
	header(nil, "a key to fetch is ignored", `{"alg":"HS256","jku":"http://127.0.0.1/","x5u":"http://127.0.0.1/","kid":"../../dev/null' OR 1"}`)
	header(errHeader, "empty", "")
	header(errHeader, "null", "null")
	header(errHeader, "a string", `"HS256"`)
	header(errHeader, "an array", `["alg","HS256"]`)
	header(errHeader, "not closed", `{"alg":"HS256"`)
	header(errHeader, "closed by a bracket", `{"alg":"HS256"]`)
	header(errHeader, "a comma at the end", `{"alg":"HS256",}`)
	header(errHeader, "single quotes", `{'alg':'HS256'}`)
	header(errHeader, "a name without quotes", `{alg:"HS256"}`)
	header(errHeader, "a byte order mark", "\ufeff"+goodHeader)
	header(errHeader, "UTF-16", "{\x00\"\x00a\x00l\x00g\x00\"\x00:\x00\"\x00H\x00S\x002\x005\x006\x00\"\x00}\x00")
	header(errHeader, "invalid UTF-8", "{\"alg\":\"HS256\",\"x\":\"\xff\"}")
	for _, rest := range []string{"x", "{}", "}", "]", ",", ":", "null", "\x00", goodHeader} {
		header(errHeader, fmt.Sprintf("%q behind it", rest), goodHeader+rest)
		claims(errClaims, fmt.Sprintf("%q behind them", rest), goodClaims+rest)
	}

	for exp, want := range map[string]error{
		"2000000000": errExpired, "2000000001": nil,
		"2000000000.499999": errExpired, "2000000000.500001": nil, "2000000000.5": errExpired, "2000000000.0": errExpired,
		"2E9": errExpired, "2.1e9": nil, "2.1E+9": nil, "21000000000e-1": nil, "1E3": errExpired, "1e-400": errExpired,
		"1e300": nil, "1e400": nil, "1e99999999999999999999": nil, "1e-99999999999999999999": errExpired, "0e99999999999999999999": errExpired, "-1e400": errExpired, "-1e300": errExpired,
		"0": errExpired, "-0": errExpired, "-1": errExpired, "-2000000001": errExpired,
		"4294967296": nil, "9223372036854775807": nil, "9223372036854775808": nil, "18446744073709551616": nil, "-9223372036854775809": errExpired,
		strings.Repeat("9", 1000): nil,
		`"2000000001"`:            errClaims, "null": errClaims, "true": errClaims, "[2000000001]": errClaims, `{"exp":2000000001}`: errClaims,
		"": errClaims, "Infinity": errClaims, "NaN": errClaims, "0x77359401": errClaims, "2_000_000_001": errClaims,
		"+2000000001": errClaims, "02000000001": errClaims, "2000000001.": errClaims, ".5e10": errClaims, "3e": errClaims, "--1": errClaims,
	} {
		claims(want, "exp "+exp, `{"exp":`+exp+`}`)
	}
	claims(errClaims, "no exp", `{"sub":"a"}`)
	claims(errClaims, "no member", `{}`)
	claims(errClaims, "EXP is not exp", `{"EXP":2000000001}`)
	claims(nil, "EXP beside exp", `{"exp":2000000001,"EXP":1}`)
	claims(errExpired, "EXP beside an exp that has passed", `{"EXP":2000000001,"exp":1}`)
	claims(nil, "exp twice", `{"exp":1,"exp":2000000001}`)
	claims(nil, "exp twice, alike", `{"exp":2000000001,"exp":2000000001}`)
	claims(nil, "exp twice, one of them escaped", `{"exp":1,"e\u0078p":2000000001}`)
	claims(nil, "exp once, escaped", `{"e\u0078p":2000000001}`)
	claims(nil, "different names are different", `{"exp":2000000001,"xexp":1,"exp ":2,"":3," ":4,"exp\u0000":5}`)
	claims(nil, "names within a claim are its own", `{"exp":2000000001,"x":{"a":1,"A":2,"a":3,"exp":0}}`)

	for nbf, want := range map[string]error{
		"2000000000": nil, "2000000000.5": nil, "2000000000.499999": nil, "2000000000.500001": errEarly, "2000000001": errEarly,
		"1e300": errEarly, "1e400": errEarly, "-1e400": nil, "-1": nil, `"1"`: errClaims, "null": errClaims, "[]": errClaims,
	} {
		claims(want, "nbf "+nbf, `{"exp":2000000001,"nbf":`+nbf+`}`)
	}
	claims(nil, "NBF beside nbf", `{"exp":2000000001,"nbf":1,"NBF":2000000001}`)
	claims(errExpired, "both past and future", `{"exp":1,"nbf":2000000001}`)
	claims(nil, "others are ignored whatever they hold", `{"exp":2000000001,"iat":9e999,"iss":null,"sub":{},"aud":[1,"\ud800"],"jti":-0.0}`)
	claims(nil, "a claim as deep as a header allows", `{"exp":2000000001,"x":`+strings.Repeat("[", 6000)+strings.Repeat("]", 6000)+`}`)
	claims(errClaims, "a claim as deep as the sea", `{"exp":2000000001,"x":`+strings.Repeat("[", 1e6)+strings.Repeat("]", 1e6)+`}`)
	claims(errClaims, "a claim without an end", `{"exp":2000000001,"x":`+strings.Repeat(`{"a":`, 1e5))
	claims(errClaims, "empty", "")
	claims(errClaims, "null", "null")
	claims(errClaims, "a number", "2000000001")
	claims(errClaims, "an array", `["exp",2000000001]`)
	claims(errClaims, "an object in an array", `[{"exp":2000000001}]`)
	claims(errClaims, "a byte order mark", "\ufeff"+goodClaims)
	claims(errClaims, "invalid UTF-8 in an ignored claim", "{\"exp\":2000000001,\"x\":\"\xc3\x28\"}")
	claims(errClaims, "invalid UTF-8 in a name", "{\"exp\":2000000001,\"\xff\":1}")
	claims(errClaims, "a control character", "{\"exp\":2000000001,\"x\":\"\n\"}")
	claims(errClaims, "no comma", `{"exp":2000000001 "x":1}`)
	claims(errClaims, "two commas", `{"exp":2000000001,,"x":1}`)
	claims(errClaims, "no colon", `{"exp" 2000000001}`)
	claims(errClaims, "a name that is no string", `{"exp":2000000001,1:2}`)
	claims(errClaims, "a comment", `{"exp":2000000001/**/}`)

	// The form. h, c and s are what a right token consists of.
	h, c := b64([]byte(goodHeader)), b64([]byte(goodClaims))
	good := sealText(h+"."+c, keys[0])
	s := good[len(h)+len(c)+2:]
	add(nil, "form: right", good)
	for i, part := range []string{"header", "claims", "signature"} {
		alter := func(name string, f func(string) string) {
			parts := []string{h, c}
			if i < 2 {
				parts[i] = f(parts[i])
			}
			token := sealText(parts[0]+"."+parts[1], keys[0])
			if i == 2 {
				token = h + "." + c + "." + f(s)
			}
			add(errForm, "form: "+part+" "+name, token)
		}
		for _, mark := range []string{"\n", "\r", "\r\n", " ", "\t", "\x00", "=", "==", "+", "/", "%", "é"} {
			alter(fmt.Sprintf("begins with %q", mark), func(s string) string { return mark + s })
			alter(fmt.Sprintf("holds %q", mark), func(s string) string { return s[:4] + mark + s[4:] })
			alter(fmt.Sprintf("ends with %q", mark), func(s string) string { return s + mark })
		}
	}
	// 16 bytes leave four bits over, 17 leave two, 32 leave two.
	for _, loose := range []string{`{"alg":"HS256"} `, `{"alg":"HS256"}  `} {
		add(nil, "form: header with bits to spare", sealText(b64([]byte(loose))+"."+c, keys[0]))
		add(errForm, "form: header with loose bits", sealText(next(b64([]byte(loose)))+"."+c, keys[0]))
	}
	add(errForm, "form: claims with loose bits", sealText(h+"."+next(b64([]byte(goodClaims+" "))), keys[0]))
	add(errForm, "form: signature with loose bits", h+"."+c+"."+next(s))
	twisted := b64([]byte(`{"exp":2000000001,"x":"~~~???"}`))
	add(nil, "form: base64url", sealText(h+"."+twisted, keys[0]))
	add(errForm, "form: base64 of the other alphabet", sealText(h+"."+strings.NewReplacer("-", "+", "_", "/").Replace(twisted), keys[0]))
	for _, token := range []string{
		"", ".", "h", h, h + "." + c, "..." + good, good + ".", "." + good, good + "." + s, h + "." + c + "..", h + ".." + c + "." + s,
		sealText(h, keys[0]), sealText(h+"."+c+"."+c, keys[0]), h + "." + c + "." + s + "." + s + "." + s,
		"eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA", // a JWE (RFC 7516)
		`{"payload":"` + c + `","protected":"` + h + `","signature":"` + s + `"}`,
		"Bearer " + good, strings.ReplaceAll(good, ".", "\u3002"),
	} {
		add(errForm, "form: "+token[:min(len(token), 99)], token)
	}
	add(errSignature, "form: three empty parts, not signed", "..")
	add(errHeader, "form: three empty parts, signed", sealText(".", keys[0]))
	add(errHeader, "form: no header", sealText("."+c, keys[0]))
	add(errClaims, "form: no claims", sealText(h+".", keys[0]))

	right := mac(h+"."+c, keys[0])
	signature := func(name string, bytes []byte) { add(errSignature, "signature: "+name, h+"."+c+"."+b64(bytes)) }
	signature("empty", nil)
	signature("its first byte", right[:1])
	signature("its first half", right[:16])
	signature("all but its last byte", right[:31])
	signature("one byte more", append(right[:32:32], 0))
	signature("twice", append(right[:32:32], right...))
	signature("zeros", make([]byte, 32))
	signature("in hexadecimal", fmt.Appendf(nil, "%x", right))
	signature("of an empty key", mac(h+"."+c, ""))
	signature("of the start of the key", mac(h+"."+c, keys[0][:31]))
	signature("without a dot between the parts", mac(h+c, keys[0]))
	signature("of the claims alone", mac(c, keys[0]))
	signature("of the decoded parts", mac(goodHeader+"."+goodClaims, keys[0]))
	signature("a plain sum", func() []byte { s := sha256.Sum256([]byte(keys[0] + h + "." + c)); return s[:] }())
	add(errSignature, "signature: another header's", b64([]byte(goodHeader+" "))+"."+c+"."+s)
	add(errSignature, "signature: other claims'", h+"."+b64([]byte(`{"exp":2000000002}`))+"."+s)
	add(errSignature, "signature: none, and alg none", b64([]byte(`{"alg":"none"}`))+"."+c+".")
	h512 := hmac.New(sha512.New, []byte(keys[0]))
	signed := b64([]byte(`{"alg":"HS512"}`)) + "." + c
	h512.Write([]byte(signed))
	add(errSignature, "signature: HS512's own", signed+"."+b64(h512.Sum(nil)))
	const theirs = "the-key-that-an-attacker-has-made"
	jwk := `{"alg":"HS256","jwk":{"kty":"oct","k":"` + b64([]byte(theirs)) + `"}}`
	add(errSignature, "signature: of the key in the header", seal(jwk, goodClaims, theirs))
	add(nil, "signature: ours, and another key in the header", seal(jwk, goodClaims, keys[0]))
	add(nil, "signature: of the second key", seal(goodHeader, goodClaims, keys[1]))
	add(errSignature, "signature: of both keys in one", seal(goodHeader, goodClaims, keys[0]+keys[1]))
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
		t.Run(tt.name, func(t *testing.T) {
			if err := verify(tt.token, NewCredentials(keys), now); err != tt.want {
				t.Errorf("%.300q: got %v, want %v", tt.token, err, tt.want)
			}
		})
	}
}

func TestNoCharacterOfATokenMayChange(t *testing.T) {
	t.Parallel()
	token := []byte(mint(keys[0], "a", now, time.Minute))
	for i, right := range token {
		for c := range 256 {
			if token[i] = byte(c); byte(c) != right && verify(string(token), NewCredentials(keys), now) == nil {
				t.Errorf("character %d may be %q instead of %q", i, byte(c), right)
			}
		}
		token[i] = right
	}
	if err := verify(string(token), NewCredentials(keys), now); err != nil {
		t.Error(err)
	}
}

func TestEveryKeyVerifiesInAnyOrderAndNoneDoesNot(t *testing.T) {
	t.Parallel()
	token := seal(goodHeader, goodClaims, keys[1])
	for _, tt := range []struct {
		keys []string
		want error
	}{
		{[]string{keys[1]}, nil},
		{[]string{keys[1], keys[0]}, nil},
		{[]string{keys[0], keys[1]}, nil},
		{[]string{keys[0], keys[1], keys[0]}, nil},
		{[]string{keys[0]}, errSignature},
		{nil, errSignature},
	} {
		if err := verify(token, NewCredentials(tt.keys), now); err != tt.want {
			t.Errorf("%q: got %v, want %v", tt.keys, err, tt.want)
		}
	}
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
		if err := verify(token, NewCredentials(keys), now); err == nil {
			trusted(t, token)
		}
	})
}

var compact = regexp.MustCompile(`\A([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})\z`)

func trusted(t *testing.T, token string) {
	parts := compact.FindStringSubmatch(token)
	if parts == nil {
		t.Fatalf("%q was let in", token)
	}
	signed := parts[1] + "." + parts[2]
	if token != sealText(signed, keys[0]) && token != sealText(signed, keys[1]) {
		t.Fatalf("%q was let in without the signature", token)
	}
	var members [2]map[string]any
	for i, part := range parts[1:3] {
		raw, err := base64.URLEncoding.DecodeString(part + strings.Repeat("=", -len(part)&3))
		if err != nil || b64(raw) != part {
			t.Fatalf("%q was let in, in base64 of two forms", token)
		}
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		if !json.Valid(raw) || d.Decode(&members[i]) != nil || members[i] == nil {
			t.Fatalf("%q was let in with %q", token, raw)
		}
	}
	if _, present := members[0]["crit"]; present || members[0]["alg"] != "HS256" {
		t.Fatalf("%q was let in with the header %v", token, members[0])
	}
	clock := big.NewFloat(2_000_000_000.5)
	seconds := func(v any) *big.Float {
		n, ok := v.(json.Number)
		if !ok {
			t.Fatalf("%q was let in with the time %v", token, v)
		}
		s, _, err := big.ParseFloat(n.String(), 10, 64, big.ToNearestEven)
		if err != nil { // an exponent beyond an int64, of which it has no opinion
			return clock
		}
		return s
	}
	// Verify reads float64, which tells 0.24 microseconds apart.
	if exp := seconds(members[1]["exp"]); exp.Cmp(clock) < 0 && new(big.Float).Sub(clock, exp).Cmp(big.NewFloat(1e-6)) > 0 {
		t.Fatalf("%q was let in after %v", token, exp)
	}
	if v, present := members[1]["nbf"]; present {
		if nbf := seconds(v); new(big.Float).Sub(nbf, clock).Cmp(big.NewFloat(1e-6)) > 0 {
			t.Fatalf("%q was let in before %v", token, nbf)
		}
	}
}
