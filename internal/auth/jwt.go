package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"example.com/healthd/internal/reload"
)

// A token is a JWS in compact form (RFC 7515, section 7.1) whose payload is a
// JWT claims set (RFC 7519), signed with HS256 and nothing else (RFC 8725,
// section 3.1). The signature is checked first: of what a stranger without the
// key sends, nothing is parsed but the base64url.

// JWT admits the bearer of a token: "Authorization: Bearer <token>" (RFC 6750)
// or the token alone.
type JWT struct {
	// The keys: every one verifies, and the first signs; at least 32 bytes each
	// (RFC 7518, section 3.2).
	*reload.Value[[]string]
	// Now is the clock.
	Now func() time.Time

	last *atomic.Pointer[accepted]
}

func (m JWT) check(r *http.Request) (string, error) {
	values := r.Header["Authorization"]
	if len(values) > 1 {
		return "", errAmbiguous
	}
	token, sent := bearer(r.Header.Get("Authorization"))
	if !sent {
		return "", errMissing
	}
	return "", m.verify(token, m.Get())
}

// accepted is a token whose signature and claims were found right with keys. A
// client sends the same one many times; to look at it anew each time costs more
// than the rest of the answer.
type accepted struct {
	sum  [sha256.Size]byte
	keys []string
	validity
}

// verify reports why token is not to be trusted now, or nil.
func (m JWT) verify(token string, keys []string) error {
	sum := sha256.Sum256([]byte(token))
	last := m.last.Load()
	known := subtle.ConstantTimeCompare(sum[:], last.sum[:]) == 1
	if !known || &last.keys[0] != &keys[0] { // a reload makes a new slice
		v, err := parse(token, keys)
		if err != nil {
			return err
		}
		last = &accepted{sum, keys, v}
		m.last.Store(last)
	}
	return last.at(m.Now())
}

// bearer returns the token of an Authorization header. One of another scheme
// carries none.
func bearer(authorization string) (token string, sent bool) {
	scheme, rest, found := strings.Cut(authorization, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		token = strings.Trim(rest, " ")
	case !found && !isBasic(scheme):
		token = scheme
	}
	return token, token != ""
}

// refusal is a 403, as the clients of old expect, with the challenge that
// RFC 6750, section 3, wants with a 401.
func (m JWT) refusal(err error) refusal {
	if err == errMissing {
		return refusal{"jwt", http.StatusForbidden, "Bearer", `{"message":"Token is missing!"}`}
	}
	return refusal{"jwt", http.StatusForbidden, `Bearer error="invalid_token"`, `{"message":"Token is invalid!"}`}
}

var (
	errForm      = errors.New("not three parts of base64url")
	errSignature = errors.New("wrong signature")
	errHeader    = errors.New("the header is not a JSON object with alg HS256 and without crit")
	errClaims    = errors.New("the claims are not a JSON object of different names with a number exp")
	errExpired   = errors.New("expired")
	errEarly     = errors.New("not valid yet")
)

// parse checks all of a token but the time, and tries every key.
func parse(token string, keys []string) (v validity, err error) {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return v, errForm
	}
	header, err1 := decode(parts[0])
	claims, err2 := decode(parts[1])
	signature, err3 := decode(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return v, errForm
	}
	signed := false
	for _, key := range keys {
		signed = hmac.Equal(signature, sign(parts[0]+"."+parts[1], key)) || signed
	}
	if !signed {
		return v, errSignature
	}
	var alg string
	fields, err := object(header)
	if err != nil || json.Unmarshal(fields["alg"], &alg) != nil || alg != "HS256" || fields["crit"] != nil {
		return v, errHeader
	}
	if fields, err = object(claims); err != nil {
		return v, errClaims
	}
	return times(fields)
}

// validity is when a token is to be trusted, in seconds of Unix time: from nbf
// (RFC 7519, section 4.1.5) and before exp (section 4.1.4), with no leeway.
type validity struct{ nbf, exp float64 }

func (v validity) at(now time.Time) error {
	switch seconds := float64(now.UnixNano()) / 1e9; {
	case seconds >= v.exp:
		return errExpired
	case seconds < v.nbf:
		return errEarly
	}
	return nil
}

// times takes exp, without which a token would hold for ever, and nbf. Both may
// be any JSON number: beyond the range of a float64 it is infinite, or late.
func times(claims map[string]json.RawMessage) (v validity, err error) {
	if v.exp, err = number(claims["exp"]); err != nil {
		return v, errClaims
	}
	v.nbf = math.Inf(-1)
	if raw, present := claims["nbf"]; present {
		if v.nbf, err = number(raw); err != nil {
			return v, errClaims
		}
	}
	return v, nil
}

func number(raw json.RawMessage) (float64, error) {
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, errClaims
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil
	}
	return f, err
}

// decode takes base64url without padding (RFC 7515, section 2) in its one
// canonical form. Go's decoder skips line ends wherever they stand.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errForm
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// object parses a JSON object into its members, whose names must differ even
// when case is folded: parsers disagree about which of two would count (RFC
// 8725, section 2.6; encoding/json takes either case for a struct's field).
func object(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if start, _ := d.Token(); start != json.Delim('{') || !json.Valid(data) || !utf8.Valid(data) {
		return nil, errClaims
	}
	// What is valid as a whole has no error in its parts.
	members, folded := make(map[string]json.RawMessage), make(map[string]bool)
	for d.More() {
		name, _ := d.Token()
		var value json.RawMessage
		d.Decode(&value)
		fold := strings.ToLower(strings.ToUpper(name.(string)))
		if folded[fold] {
			return nil, errClaims
		}
		folded[fold], members[name.(string)] = true, value
	}
	return members, nil
}

func sign(signed, key string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	io.WriteString(mac, signed)
	return mac.Sum(nil)
}

// Mint returns a token for subject, issued at now and valid for ttl.
func Mint(key, subject string, now time.Time, ttl time.Duration) string {
	claims, _ := json.Marshal(struct {
		Iat int64  `json:"iat"`
		Exp int64  `json:"exp"`
		Sub string `json:"sub"`
	}{now.Unix(), now.Add(ttl).Unix(), subject})
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	return signed + "." + encode(sign(signed, key))
}

// Token answers POST /token with a token for whom guard admits, valid for half
// an hour.
func (m JWT) Token(guard Guard) http.Handler {
	return guard.handler(func(w http.ResponseWriter, r *http.Request, subject string) {
		m.Look() // a new key signs at once
		write(w, http.StatusOK, `{"token":"`+Mint(m.Get()[0], subject, m.Now(), 30*time.Minute)+`"}`)
	})
}
