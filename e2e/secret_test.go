//go:build e2e

package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// confidential is what the tests' programs must keep to themselves. Every
// token begins as JSON in base64url does.
var confidential = struct {
	sync.Mutex
	values []string
}{values: []string{"eyJ"}}

// keep makes leaks look for s, and returns it.
func keep(s string) string {
	confidential.Lock()
	defer confidential.Unlock()
	confidential.values = append(confidential.values, s)
	return s
}

// leaks reports whether text holds anything confidential.
func leaks(text string) bool {
	confidential.Lock()
	defer confidential.Unlock()
	for _, value := range confidential.values {
		if strings.Contains(text, value) {
			return true
		}
	}
	return false
}

// The check of every process proves something only if it can fail.
func TestALeakIsSeen(t *testing.T) {
	key, name, password := newKey(), newKey(), newKey()
	basic := authorization("basic", name+":"+password)
	for what, said := range map[string]string{
		"a key":            key,
		"a user":           name,
		"a password":       password,
		"a header":         basic,
		"a token":          mint(key, nil),
		"a PEM key":        newCertificate(t, ecdsaKey(t)).key,
		"a word of theirs": "x" + password + "y",
	} {
		if !leaks("level=INFO msg=" + said) {
			t.Errorf("%s is not seen", what)
		}
	}
	if leaks("level=INFO msg=listening addr=127.0.0.2:8080") {
		t.Error("a leak is seen where there is none")
	}
}

// newKey makes a secret of 52 letters and digits.
func newKey() string { return keep(rand.Text() + rand.Text()) }

// newPair makes a credential. Names are kept as well: what a stranger presents
// may be a password in the wrong field.
func newPair() string { return newKey() + ":" + newKey() }

// newCredential makes a credential of the method that -auth calls by name.
func newCredential(method string) string {
	if method == "jwt" {
		return newKey()
	}
	return newPair()
}

// setting is the variable of a method's credential, or with _FILE of its file.
func setting(method string) string {
	if method == "jwt" {
		return "HEALTHD_JWT_SECRET"
	}
	return "HEALTHD_" + strings.ToUpper(method)
}

// authorization returns the lines of a request's header that present a
// credential; for jwt, a token that it signs.
func authorization(method, credential string) string {
	switch method {
	case "basic":
		return "Authorization: Basic " + keep(base64.StdEncoding.EncodeToString([]byte(credential))) + "\r\n"
	case "aksk":
		access, secret, _ := strings.Cut(credential, ":")
		return "X-Access-Key: " + access + "\r\nX-Secret-Key: " + secret + "\r\n"
	}
	return "Authorization: Bearer " + mint(credential, map[string]any{"exp": time.Now().Add(time.Hour).Unix()}) + "\r\n"
}

// mint and verify are HS256 as RFC 7515 has it, apart from healthd's own code.
func mint(key string, claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256"}`)) + "." + encode(payload)
	return signed + "." + encode(hs256(key, signed))
}

func hs256(key, signed string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// claims are those of a token of POST /token.
type claims struct {
	Sub      string
	Iat, Exp int64
}

// verify takes the body of an answer to POST /token, and wants a token that key
// has signed now, for half an hour.
func verify(body, key string) (c claims, err error) {
	var issued struct{ Token string }
	if err := json.Unmarshal([]byte(body), &issued); err != nil {
		return c, err
	}
	parts := strings.Split(issued.Token, ".")
	if len(parts) != 3 {
		return c, errors.New("not three parts")
	}
	payload, err1 := base64.RawURLEncoding.DecodeString(parts[1])
	signature, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	if err := errors.Join(err1, err2); err != nil {
		return c, err
	}
	if !hmac.Equal(signature, hs256(key, parts[0]+"."+parts[1])) {
		return c, errors.New("the key did not sign this token")
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, err
	}
	if age := time.Now().Unix() - c.Iat; age < 0 || age > int64(patience.Seconds()) || c.Exp-c.Iat != 30*60 {
		return c, fmt.Errorf("iat is %d s ago, exp %d s after it", age, c.Exp-c.Iat)
	}
	return c, nil
}

// certificate is PEM.
type certificate struct{ cert, key string }

// newCertificate makes a certificate that its own key signs, for host and for
// the name that HAProxy checks.
func newCertificate(t *testing.T, key crypto.Signer) certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "healthd"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"healthd"},
		IPAddresses:  []net.IP{net.ParseIP(host)},
	}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	pkcs8, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	c := certificate{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	}
	for _, line := range strings.Split(c.key, "\n")[1:3] {
		keep(line)
	}
	return c
}

func ecdsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trust returns the settings of a TLS client that trusts c.
func (c certificate) trust() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.cert))
	return &tls.Config{RootCAs: roots, ServerName: host}
}

// install writes c as the two files of a kubernetes.io/tls Secret and returns
// the settings that name them.
func (c certificate) install(t *testing.T) (env []string) {
	t.Helper()
	dir := t.TempDir()
	if err := swap(dir, c.files()); err != nil {
		t.Fatal(err)
	}
	return []string{"HEALTHD_TLS_CERT=" + dir + "/tls.crt", "HEALTHD_TLS_KEY=" + dir + "/tls.key"}
}

func (c certificate) files() map[string]string {
	return map[string]string{"tls.crt": c.cert, "tls.key": c.key}
}

// written writes a file of the test's own and returns its path.
func written(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// swap replaces the files of a directory all at once, as the kubelet does with
// those of a Secret: each is a link through the link ..data to a directory that
// is new each time, and the old one is removed.
func swap(dir string, files map[string]string) error {
	next, err := os.MkdirTemp(dir, "..20")
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(next, name), []byte(content), 0o600))
	}
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data)
	err = errors.Join(err, os.Symlink(filepath.Base(next), data+"_tmp"), os.Rename(data+"_tmp", data))
	if old != "" {
		return errors.Join(err, os.RemoveAll(filepath.Join(dir, old)))
	}
	for name := range files {
		err = errors.Join(err, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	return err
}
