package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// mark is in every secret of these tests, and in no error.
const mark = "s3cret"

var key32 = mark + strings.Repeat("k", 32-len(mark))

// selfSigned returns a PEM certificate and its PEM key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", raw)
}

// inFiles writes the files, and parses the environment with "FILE:" in its
// values for their directory.
func inFiles(t *testing.T, args string, env, files map[string]string) (Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Parse(strings.Fields(strings.ReplaceAll(args, "FILE:", dir+"/")), func(name string) string {
		return strings.ReplaceAll(env[name], "FILE:", dir+"/")
	})
}

func TestSecretsAreRefused(t *testing.T) {
	t.Parallel()
	const pair = "user:" + mark
	cert, key := selfSigned(t)
	_, otherKey := selfSigned(t)
	type m = map[string]string
	for _, tt := range []struct {
		name  string
		args  string
		env   m
		files m
		want  string // in the error
	}{
		{"an unknown method", "-auth digest", nil, nil, "-auth: use a list of basic, aksk, jwt"},
		{"a method of another case", "-auth Basic", m{"HEALTHD_BASIC": pair}, nil, "-auth: use a list"},
		{"an unknown method in the environment", "", m{"HEALTHD_AUTH": "basic,hmac", "HEALTHD_BASIC": pair}, nil, "HEALTHD_AUTH: use a list"},
		{"an empty method", "-auth basic,", m{"HEALTHD_BASIC": pair}, nil, "-auth: use a list"},
		{"no method", "-auth=", nil, nil, "-auth: use a list"},
		{"a list of nothing", "", m{"HEALTHD_AUTH": " "}, nil, "HEALTHD_AUTH: use a list"},
		{"a method twice", "-auth basic,basic", m{"HEALTHD_BASIC": pair}, nil, "-auth: use a list"},

		{"basic without its credential", "-auth basic", nil, nil, "set HEALTHD_BASIC or HEALTHD_BASIC_FILE"},
		{"aksk without its credential", "", m{"HEALTHD_AUTH": "aksk"}, nil, "set HEALTHD_AKSK or HEALTHD_AKSK_FILE"},
		{"jwt without its secret", "-auth jwt", nil, nil, "set HEALTHD_JWT_SECRET or HEALTHD_JWT_SECRET_FILE"},
		{"the second of two without its credential", "-auth basic,jwt", m{"HEALTHD_BASIC": pair}, nil, "set HEALTHD_JWT_SECRET"},
		{"jwt with a user, but no secret", "-auth jwt", m{"HEALTHD_BASIC": pair}, nil, "set HEALTHD_JWT_SECRET"},
		{"a credential of white space is none", "-auth basic", m{"HEALTHD_BASIC": " \t"}, nil, "set HEALTHD_BASIC"},

		{"basic that nothing uses", "", m{"HEALTHD_BASIC": pair}, nil, "HEALTHD_BASIC is set and nothing uses it"},
		{"aksk that nothing uses", "-auth basic", m{"HEALTHD_BASIC": pair, "HEALTHD_AKSK": pair}, nil, "HEALTHD_AKSK is set and nothing uses it"},
		{"a JWT secret that nothing uses", "-auth basic", m{"HEALTHD_BASIC": pair, "HEALTHD_JWT_SECRET": key32}, nil, "HEALTHD_JWT_SECRET is set and nothing uses it"},
		{"a file that nothing uses", "", m{"HEALTHD_AKSK_FILE": "FILE:f"}, m{"f": pair}, "HEALTHD_AKSK is set and nothing uses it"},
		{"a misspelt HEALTHD_AUTH", "", m{"HEALTHD_AUHT": "basic", "HEALTHD_BASIC": pair}, nil, "name basic in -auth (HEALTHD_AUTH)"},
		{"an empty HEALTHD_AUTH", "", m{"HEALTHD_AUTH": "", "HEALTHD_BASIC": pair}, nil, "name basic in -auth (HEALTHD_AUTH)"},
		{"a probe without its method", "probe", m{"HEALTHD_BASIC": pair}, nil, "name basic in -auth (HEALTHD_AUTH)"},

		{"both forms of basic", "-auth basic", m{"HEALTHD_BASIC": pair, "HEALTHD_BASIC_FILE": "FILE:f"}, m{"f": pair}, "HEALTHD_BASIC and HEALTHD_BASIC_FILE are both set"},
		{"both forms of aksk", "-auth aksk", m{"HEALTHD_AKSK": pair, "HEALTHD_AKSK_FILE": "FILE:f"}, m{"f": pair}, "HEALTHD_AKSK and HEALTHD_AKSK_FILE are both set"},
		{"both forms of the JWT secret", "-auth jwt", m{"HEALTHD_JWT_SECRET": key32, "HEALTHD_JWT_SECRET_FILE": "FILE:f"}, m{"f": key32}, "HEALTHD_JWT_SECRET and HEALTHD_JWT_SECRET_FILE are both set"},

		{"an empty file", "-auth basic", m{"HEALTHD_BASIC_FILE": "FILE:f"}, m{"f": ""}, "HEALTHD_BASIC_FILE: no line holds a credential"},
		{"a file of blank and # lines", "-auth jwt", m{"HEALTHD_JWT_SECRET_FILE": "FILE:f"}, m{"f": "\r\n # " + key32 + "\n\t\n#"}, "HEALTHD_JWT_SECRET_FILE: no line holds a credential"},
		{"a missing file", "-auth aksk", m{"HEALTHD_AKSK_FILE": "FILE:missing"}, nil, "HEALTHD_AKSK_FILE: no such file"},
		{"a directory", "-auth aksk", m{"HEALTHD_AKSK_FILE": "FILE:."}, nil, "HEALTHD_AKSK_FILE: is a directory"},
		{"a bad line among good ones", "-auth basic", m{"HEALTHD_BASIC_FILE": "FILE:f"}, m{"f": pair + "\n\n" + mark + "\n"}, "HEALTHD_BASIC_FILE: line 3 is not of the form name:secret"},
		{"a short key among good ones", "-auth jwt", m{"HEALTHD_JWT_SECRET_FILE": "FILE:f"}, m{"f": key32 + "\n" + mark}, "HEALTHD_JWT_SECRET_FILE: line 2 is 6 bytes"},
		{"a credential where a file is named", "-auth basic", m{"HEALTHD_BASIC_FILE": pair}, nil, "HEALTHD_BASIC_FILE: no such file"},
		{"a key where a file is named", "-auth jwt", m{"HEALTHD_JWT_SECRET_FILE": key32}, nil, "HEALTHD_JWT_SECRET_FILE: no such file"},
		{"several lines in a variable", "-auth basic", m{"HEALTHD_BASIC": pair + "\n" + pair}, nil, "HEALTHD_BASIC holds several lines"},

		{"a JWT secret of 31 bytes", "-auth jwt", m{"HEALTHD_JWT_SECRET": key32[:31]}, nil, "HEALTHD_JWT_SECRET is 31 bytes; HS256 needs at least 32"},
		{"a JWT secret of 31 bytes and white space", "-auth jwt", m{"HEALTHD_JWT_SECRET": " " + key32[:31] + "\n"}, nil, "HEALTHD_JWT_SECRET is 31 bytes"},
		{"a JWT secret of 31 bytes in a file", "-auth jwt", m{"HEALTHD_JWT_SECRET_FILE": "FILE:f"}, m{"f": key32[:31] + "\r\n"}, "line 1 is 31 bytes"},

		{"no user", "-auth basic", m{"HEALTHD_BASIC": ":" + mark}, nil, "HEALTHD_BASIC is not of the form name:secret with both halves"},
		{"no password", "-auth basic", m{"HEALTHD_BASIC": mark + ":"}, nil, "HEALTHD_BASIC is not of the form"},
		{"a password of white space", "-auth basic", m{"HEALTHD_BASIC": mark + ": "}, nil, "HEALTHD_BASIC is not of the form"},
		{"no colon", "-auth basic", m{"HEALTHD_BASIC": mark}, nil, "HEALTHD_BASIC is not of the form"},
		{"no access key", "-auth aksk", m{"HEALTHD_AKSK": ":" + mark}, nil, "HEALTHD_AKSK is not of the form"},
		{"no secret key", "-auth aksk", m{"HEALTHD_AKSK": mark + ":"}, nil, "HEALTHD_AKSK is not of the form"},
		{"an empty half in a file", "-auth aksk", m{"HEALTHD_AKSK_FILE": "FILE:f"}, m{"f": mark + ":"}, "HEALTHD_AKSK_FILE: line 1 is not of the form"},
		{"an empty half of what only the token endpoint uses", "-auth jwt", m{"HEALTHD_JWT_SECRET": key32, "HEALTHD_BASIC": mark + ":"}, nil, "HEALTHD_BASIC is not of the form"},

		{"a certificate without its key", "-tls-cert FILE:c", nil, m{"c": cert}, "HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together"},
		{"a key without its certificate", "", m{"HEALTHD_TLS_KEY": "FILE:k"}, m{"k": key}, "HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together"},
		{"another certificate's key", "-tls-cert FILE:c -tls-key FILE:k", nil, m{"c": cert, "k": otherKey}, "-tls-cert (HEALTHD_TLS_CERT), -tls-key (HEALTHD_TLS_KEY): tls: private key does not match public key"},
		{"certificate and key swapped", "-tls-cert FILE:k -tls-key FILE:c", nil, m{"c": cert, "k": key}, "-tls-cert (HEALTHD_TLS_CERT), -tls-key (HEALTHD_TLS_KEY): tls: failed to find certificate PEM data"},
		{"an empty certificate", "-tls-cert FILE:c -tls-key FILE:k", nil, m{"c": "", "k": key}, "-tls-cert (HEALTHD_TLS_CERT), -tls-key (HEALTHD_TLS_KEY): tls: failed to find any PEM data in certificate input"},
		{"an empty key", "-tls-cert FILE:c -tls-key FILE:k", nil, m{"c": cert, "k": ""}, "-tls-cert (HEALTHD_TLS_CERT), -tls-key (HEALTHD_TLS_KEY): tls: failed to find any PEM data in key input"},
		{"a key of garbage", "-tls-cert FILE:c -tls-key FILE:k", nil, m{"c": cert, "k": strings.ReplaceAll(key, "M", mark)}, "-tls-cert (HEALTHD_TLS_CERT), -tls-key (HEALTHD_TLS_KEY): tls: "},
		{"a missing certificate", "-tls-cert FILE:c -tls-key FILE:k", nil, m{"k": key}, "-tls-cert (HEALTHD_TLS_CERT): no such file"},
		{"a missing key", "-tls-cert FILE:c -tls-key FILE:k", nil, m{"c": cert}, "-tls-key (HEALTHD_TLS_KEY): no such file"},
		{"a key where its file is named", "", m{"HEALTHD_TLS_CERT": "FILE:c", "HEALTHD_TLS_KEY": key}, m{"c": cert}, "HEALTHD_TLS_KEY): "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := inFiles(t, tt.args, tt.env, tt.files)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			for _, key := range []string{key, otherKey} {
				if strings.Contains(err.Error(), mark) || strings.Contains(err.Error(), strings.Split(key, "\n")[1]) {
					t.Errorf("the error tells a secret: %q", err)
				}
			}
		})
	}
}

func TestSecretsAreRead(t *testing.T) {
	t.Parallel()
	type m = map[string]string
	for _, tt := range []struct {
		name  string
		env   m
		files m
		auth  []string
		want  map[string][]string // lines by method
	}{
		{"from a variable, without the white space around it", m{"HEALTHD_AUTH": "basic", "HEALTHD_BASIC": " user:pass word\t\r\n"}, nil,
			[]string{"basic"}, map[string][]string{"basic": {"user:pass word"}}},
		{"from a file, every line in its order", m{"HEALTHD_AUTH": "aksk", "HEALTHD_AKSK_FILE": "FILE:f"}, m{"f": "b:2\na:1\nb:3"},
			[]string{"aksk"}, map[string][]string{"aksk": {"b:2", "a:1", "b:3"}}},
		{"without blank lines, # lines, CRLF and white space", m{"HEALTHD_AUTH": "basic", "HEALTHD_BASIC_FILE": "FILE:f"}, m{"f": "\r\n#a:1\r\n  b:2 \r\n\t# c:3\r\n \r\nd:#4\r\n"},
			[]string{"basic"}, map[string][]string{"basic": {"b:2", "d:#4"}}},
		{"with colons", m{"HEALTHD_AUTH": "basic", "HEALTHD_BASIC": "user:a:b:"}, nil,
			[]string{"basic"}, map[string][]string{"basic": {"user:a:b:"}}},
		{"a key of 32 bytes", m{"HEALTHD_AUTH": "jwt", "HEALTHD_JWT_SECRET": key32}, nil,
			[]string{"jwt"}, map[string][]string{"jwt": {key32}}},
		{"bytes count, not letters", m{"HEALTHD_AUTH": "jwt", "HEALTHD_JWT_SECRET": strings.Repeat("é", 16)}, nil,
			[]string{"jwt"}, map[string][]string{"jwt": {strings.Repeat("é", 16)}}},
		{"methods in their order, white space aside", m{"HEALTHD_AUTH": " jwt , basic", "HEALTHD_JWT_SECRET": key32, "HEALTHD_BASIC": "a:1"}, nil,
			[]string{"jwt", "basic"}, map[string][]string{"jwt": {key32}, "basic": {"a:1"}}},
		{"for the token endpoint, which does not lock", m{"HEALTHD_AUTH": "jwt", "HEALTHD_JWT_SECRET": key32, "HEALTHD_BASIC": "a:1", "HEALTHD_AKSK": "b:2"}, nil,
			[]string{"jwt"}, map[string][]string{"jwt": {key32}, "basic": {"a:1"}, "aksk": {"b:2"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := inFiles(t, "", tt.env, tt.files)
			if err != nil || !slices.Equal(c.Auth, tt.auth) || len(c.Secrets) != len(tt.want) {
				t.Fatalf("got %v, %v, %v", c.Auth, c.Secrets, err)
			}
			for method, lines := range tt.want {
				s := c.Secrets[method]
				if !slices.Equal(s.Lines, lines) || len(s.Files) != len(tt.files) {
					t.Errorf("%s is %q of %q, want %q", method, s.Lines, s.Files, lines)
				}
				if s.Files == nil {
					continue
				}
				if again, err := s.Parse([][]byte{[]byte(tt.files["f"])}); err != nil || !slices.Equal(again, lines) {
					t.Errorf("read again, %s is %q, %v", method, again, err)
				}
			}
		})
	}
}

func TestTheCertificateIsRead(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	c, err := inFiles(t, "-tls-key FILE:k", map[string]string{"HEALTHD_TLS_CERT": "FILE:c"}, map[string]string{"c": cert, "k": key})
	block, _ := pem.Decode([]byte(cert))
	if err != nil || len(c.Certificate.Certificate) != 1 || !bytes.Equal(c.Certificate.Certificate[0], block.Bytes) {
		t.Errorf("got %d certificates, %v", len(c.Certificate.Certificate), err)
	}
}

func TestClear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		c    Config
		want bool
	}{
		{"every address", Config{Addr: ":8080", Auth: []string{"basic"}}, true},
		{"an address of a network", Config{Addr: "192.0.2.1:8080", Auth: []string{"jwt"}}, true},
		{"unspecified IPv6", Config{Addr: "[::]:8080", Auth: []string{"aksk"}}, true},
		{"a host name", Config{Addr: "localhost.example:8080", Auth: []string{"basic"}}, true},
		{"loopback", Config{Addr: "127.0.0.2:8080", Auth: []string{"basic"}}, false},
		{"IPv6 loopback", Config{Addr: "[::1]:8080", Auth: []string{"basic"}}, false},
		{"loopback by name", Config{Addr: "localhost:8080", Auth: []string{"basic"}}, false},
		{"TLS", Config{Addr: ":8080", Auth: []string{"basic"}, TLSCert: "c", TLSKey: "k"}, false},
		{"no lock", Config{Addr: ":8080"}, false},
	} {
		if got := tt.c.Clear(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The server keeps its last good content, and so a bad file must not fail every
// probe of it.
func TestAProbeMakesDoWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	half, bad, missing := write("half", "junk\nuser:pw\n"), write("bad", "junk"), filepath.Join(dir, "missing")
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string // the method whose credential is left; none is a refusal
	}{
		{"a good line beside a bad one", map[string]string{"HEALTHD_AUTH": "basic", "HEALTHD_BASIC_FILE": half}, "basic"},
		{"another method", map[string]string{"HEALTHD_AUTH": "basic,aksk", "HEALTHD_BASIC_FILE": bad, "HEALTHD_AKSK": "a:b"}, "aksk"},
		{"another method beside no file", map[string]string{"HEALTHD_AUTH": "basic,aksk", "HEALTHD_BASIC_FILE": missing, "HEALTHD_AKSK": "a:b"}, "aksk"},
		{"nothing", map[string]string{"HEALTHD_AUTH": "basic", "HEALTHD_BASIC_FILE": bad}, ""},
		{"nothing for the method that locks", map[string]string{"HEALTHD_AUTH": "jwt", "HEALTHD_JWT_SECRET_FILE": bad, "HEALTHD_BASIC": "a:b"}, ""},
		{"a mistake in a variable is one all the same", map[string]string{"HEALTHD_AUTH": "basic,aksk", "HEALTHD_BASIC": "junk", "HEALTHD_AKSK": "a:b"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse("probe", tt.env)
			if (err == nil) != (tt.want != "") || err == nil && c.Secrets[tt.want].Lines == nil {
				t.Errorf("got %v, %v; want the credential of %q", c.Secrets, err, tt.want)
			}
			if _, err := parse("", tt.env); err == nil {
				t.Error("a server starts with that")
			}
		})
	}
}
