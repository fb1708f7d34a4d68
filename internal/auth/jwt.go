package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/healthd/internal/reload"
)

// A token is a JWS in compact form (RFC 7515, section 7.1) of a JWT claims set
// (RFC 7519), signed with HS256 and nothing else (RFC 8725, section 3.1).

var (
	errForm      = errors.New("not three parts of base64url")
	errSignature = errors.New("wrong signature")
	errHeader    = errors.New("the header is not a JSON object with alg HS256 and without crit")
	errClaims    = errors.New("the claims are not a JSON object with a number exp")
	errExpired   = errors.New("expired")
	errEarly     = errors.New("not valid yet")
)

// NewJWT admits the bearer of a token: "Authorization: Bearer <token>" (RFC 6750)
// or the token alone. Every key verifies; each has at least 32 bytes (RFC 7518,
// section 3.2). A refusal is a 403, which existing clients know.
func NewJWT(keys *reload.Value[Credentials], now func() time.Time) Method {
	check := func(r *http.Request, keys Credentials) (string, error) {
		token, err := parameter(r, "Bearer")
		if alone := r.Header.Get("Authorization"); err == errMissing && !strings.Contains(alone, " ") && !strings.EqualFold(alone, "Basic") {
			token, err = alone, nil
		}
		switch {
		case err != nil:
			return "", err
		case token == "":
			return "", errMissing
		}
		return "", verify(token, keys, now())
	}
	return Method{keys, "jwt", check,
		answer{http.StatusForbidden, `{"message":"Token is missing!"}`, "Bearer"},
		answer{http.StatusForbidden, `{"message":"Token is invalid!"}`, `Bearer error="invalid_token"`}} // RFC 6750, section 3
}

// NewToken answers with a token for whom guard admits, valid for half an hour. The
// first key signs.
func NewToken(keys *reload.Value[Credentials], now func() time.Time, guard Guard) http.Handler {
	return guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys.Refresh() // a new key signs at once
		respond(w, http.StatusOK, `{"token":"`+mint(keys.Get()[0].Line, guard.subject(r), now(), 30*time.Minute)+`"}`)
	}))
}

// verify returns why token is not to be trusted now, or nil. The signature is
// checked first: of what comes without a key, only the base64url is parsed. A token
// holds from nbf on and before exp (RFC 7519, section 4.1), with no leeway.
func verify(token string, keys Credentials, now time.Time) error {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return errForm
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decode(part); err != nil {
			return errForm
		}
	}
	signed := false
	for _, key := range keys {
		signed = hmac.Equal(decoded[2], sign(parts[0]+"."+parts[1], key.Line)) || signed
	}
	if !signed {
		return errSignature
	}
	// Maps, because into a struct's field encoding/json takes a name in any case. Of two equal
	// names the last counts.
	var header, claims map[string]json.RawMessage
	var alg string
	if !utf8.Valid(decoded[0]) || json.Unmarshal(decoded[0], &header) != nil ||
		json.Unmarshal(header["alg"], &alg) != nil || alg != "HS256" || header["crit"] != nil {
		return errHeader
	}
	if !utf8.Valid(decoded[1]) || json.Unmarshal(decoded[1], &claims) != nil {
		return errClaims
	}
	exp, err := number(claims["exp"]) // without one a token would hold for ever
	nbf := math.Inf(-1)
	if raw, present := claims["nbf"]; present && err == nil {
		nbf, err = number(raw)
	}
	switch seconds := float64(now.UnixNano()) / 1e9; {
	case err != nil:
		return errClaims
	case seconds >= exp:
		return errExpired
	case seconds < nbf:
		return errEarly
	}
	return nil
}

// decode takes base64url without padding (RFC 7515, section 2) in its one
// canonical form. Go's decoder skips line ends wherever they are.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errForm
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// number takes any JSON number; one beyond the range of a float64 is infinite.
func number(raw json.RawMessage) (float64, error) {
	f, err := strconv.ParseFloat(string(raw), 64) // takes no other JSON value
	if errors.Is(err, strconv.ErrRange) {
		err = nil
	}
	return f, err
}

func sign(signed, key string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	io.WriteString(mac, signed)
	return mac.Sum(nil)
}

// mint returns a token for subject, issued now and valid for ttl.
func mint(key, subject string, now time.Time, ttl time.Duration) string {
	sub, _ := json.Marshal(subject)
	claims := fmt.Appendf(nil, `{"iat":%d,"exp":%d,"sub":%s}`, now.Unix(), now.Add(ttl).Unix(), sub)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	return signed + "." + encode(sign(signed, key))
}
