package auth

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// NewJWT admits the bearer of a token: "Authorization: Bearer <token>" (RFC 6750) or the token
// alone. A refusal is a 403, which existing clients know.
func NewJWT(keys *Credentials, now func() time.Time) Method {
	missing := Refusal{http.StatusForbidden, "jwt", "application/json", `{"message":"Token is missing!"}`,
		[]string{"Bearer"}, nil}
	wrong := Refusal{http.StatusForbidden, "jwt", "application/json", `{"message":"Token is invalid!"}`,
		[]string{`Bearer error="invalid_token"`}, nil} // RFC 6750, section 3
	return Method{keys, func(r *http.Request) (string, error) {
		token, _ := parameter(r, "Bearer")
		if token == "" {
			return "", errMissing
		}
		return "", verify(token, keys.Get(), now())
	}, missing, wrong}
}

// NewToken answers whom guard admits with a token for half an hour, signed with the first key.
func NewToken(keys *Credentials, now func() time.Time, guard Guard) http.Handler {
	return guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys.Refresh() // a new key signs at once
		w.Header().Set("Content-Type", "application/json")
		for _, m := range guard.Methods {
			if subject, err := m.check(r); err == nil {
				io.WriteString(w, `{"token":"`+mint(keys.Get()[0].Line, subject, now(), 30*time.Minute)+`"}`)
				return
			}
		}
		w.WriteHeader(http.StatusUnauthorized) // the credential has been replaced since
	}))
}

// verify returns why token is not to be trusted now, or nil for a JWS in compact form (RFC 7515,
// section 7.1), signed with HS256 and nothing else (RFC 8725, section 3.1), from nbf on and before
// exp (RFC 7519, section 4.1), with no leeway. Unless the signature is right, nothing is parsed.
func verify(token string, keys []Credential, now time.Time) error {
	first, rest, _ := strings.Cut(token, ".")
	second, _, _ := strings.Cut(rest, ".")
	signed := false
	for _, key := range keys {
		signed = hmac.Equal([]byte(token), []byte(sign(first+"."+second, key.Line))) || signed
	}
	if !signed {
		return errors.New("not a token signed with a key of ours")
	}
	header, claims := object(first), object(second)
	var alg string
	if json.Unmarshal(header["alg"], &alg) != nil || alg != "HS256" || header["crit"] != nil {
		return errors.New("the header is not a JSON object with alg HS256 and without crit")
	}
	// Of JSON only numbers parse; out of range they are infinite. A token without exp would never end.
	exp, expErr := strconv.ParseFloat(string(claims["exp"]), 64)
	nbf, nbfErr := strconv.ParseFloat(cmp.Or(string(claims["nbf"]), "-Inf"), 64)
	switch seconds := float64(now.UnixNano()) / 1e9; {
	case errors.Is(errors.Join(expErr, nbfErr), strconv.ErrSyntax):
		return errors.New("the claims are not a JSON object with a number exp")
	case seconds >= exp:
		return errors.New("expired")
	case seconds < nbf:
		return errors.New("not valid yet")
	}
	return nil
}

// object decodes base64url in its one form without padding (RFC 7515, section 2), where Go would
// skip line ends, into a map or else nil: a struct would take names in any case.
func object(part string) (members map[string]json.RawMessage) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") || !utf8.Valid(raw) || json.Unmarshal(raw, &members) != nil {
		return nil
	}
	return members
}

func mint(key, subject string, now time.Time, ttl time.Duration) string {
	claims, _ := json.Marshal(map[string]any{"iat": now.Unix(), "exp": now.Add(ttl).Unix(), "sub": subject})
	encode := base64.RawURLEncoding.EncodeToString
	return sign(encode([]byte(`{"alg":"HS256","typ":"JWT"}`))+"."+encode(claims), key)
}

func sign(text, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
