package config

import (
	"slices"
	"strings"
	"testing"
)

// mark is in every secret of these tests, and in no error.
const mark = "s3cret"

var key32 = mark + strings.Repeat("k", 32-len(mark))

func TestSecretsAreRefused(t *testing.T) {
	t.Parallel()
	const pair = "user:" + mark
	type m = map[string]string
	for _, tt := range []struct {
		name string
		args string
		env  m
		want string // in the error
	}{
		{"an unknown method", "-auth digest", nil, "-auth: use a list of basic, aksk, jwt"},
		{"a method of another case", "-auth Basic", m{"HEALTHD_BASIC": pair}, "-auth: use a list"},
		{"an unknown method in the environment", "", m{"HEALTHD_AUTH": "basic,hmac", "HEALTHD_BASIC": pair}, "HEALTHD_AUTH: use a list"},
		{"an empty method", "-auth basic,", m{"HEALTHD_BASIC": pair}, "-auth: use a list"},
		{"no method", "-auth=", nil, "-auth: use a list"},
		{"a list of nothing", "", m{"HEALTHD_AUTH": " "}, "HEALTHD_AUTH: use a list"},
		{"a method twice", "-auth basic,basic", m{"HEALTHD_BASIC": pair}, "-auth: use a list"},

		{"basic without its credential", "-auth basic", nil, "set HEALTHD_BASIC or HEALTHD_BASIC_FILE"},
		{"aksk without its credential", "", m{"HEALTHD_AUTH": "aksk"}, "set HEALTHD_AKSK or HEALTHD_AKSK_FILE"},
		{"jwt without its secret", "-auth jwt", nil, "set HEALTHD_JWT_SECRET or HEALTHD_JWT_SECRET_FILE"},
		{"the second of two without its credential", "-auth basic,jwt", m{"HEALTHD_BASIC": pair}, "set HEALTHD_JWT_SECRET"},
		{"jwt with a user, but no secret", "-auth jwt", m{"HEALTHD_BASIC": pair}, "set HEALTHD_JWT_SECRET"},
		{"a credential of white space is none", "-auth basic", m{"HEALTHD_BASIC": " \t"}, "set HEALTHD_BASIC"},

		{"basic that nothing uses", "", m{"HEALTHD_BASIC": pair}, "HEALTHD_BASIC is set and nothing uses it"},
		{"aksk that nothing uses", "-auth basic", m{"HEALTHD_BASIC": pair, "HEALTHD_AKSK": pair}, "HEALTHD_AKSK is set and nothing uses it"},
		{"a JWT secret that nothing uses", "-auth basic", m{"HEALTHD_BASIC": pair, "HEALTHD_JWT_SECRET": key32}, "HEALTHD_JWT_SECRET is set and nothing uses it"},
		{"a file that nothing uses", "", m{"HEALTHD_AKSK_FILE": "f"}, "HEALTHD_AKSK_FILE is set and nothing uses it"},
		{"a misspelt HEALTHD_AUTH", "", m{"HEALTHD_AUHT": "basic", "HEALTHD_BASIC": pair}, "name basic in -auth (HEALTHD_AUTH)"},
		{"an empty HEALTHD_AUTH", "", m{"HEALTHD_AUTH": "", "HEALTHD_BASIC": pair}, "name basic in -auth (HEALTHD_AUTH)"},
		{"a probe without its method", "probe", m{"HEALTHD_BASIC": pair}, "name basic in -auth (HEALTHD_AUTH)"},

		{"both forms of basic", "-auth basic", m{"HEALTHD_BASIC": pair, "HEALTHD_BASIC_FILE": "f"}, "set HEALTHD_BASIC or HEALTHD_BASIC_FILE, and not both"},
		{"both forms of aksk", "-auth aksk", m{"HEALTHD_AKSK": pair, "HEALTHD_AKSK_FILE": "f"}, "set HEALTHD_AKSK or HEALTHD_AKSK_FILE, and not both"},
		{"both forms of the JWT secret", "-auth jwt", m{"HEALTHD_JWT_SECRET": key32, "HEALTHD_JWT_SECRET_FILE": "f"}, "set HEALTHD_JWT_SECRET or HEALTHD_JWT_SECRET_FILE, and not both"},

		{"several lines in a variable", "-auth basic", m{"HEALTHD_BASIC": pair + "\n" + pair}, "HEALTHD_BASIC holds a control character"},

		{"a JWT secret of 31 bytes", "-auth jwt", m{"HEALTHD_JWT_SECRET": key32[:31]}, "HEALTHD_JWT_SECRET is 31 bytes; HS256 needs at least 32"},
		{"a JWT secret of 31 bytes and white space", "-auth jwt", m{"HEALTHD_JWT_SECRET": " " + key32[:31] + "\n"}, "HEALTHD_JWT_SECRET is 31 bytes"},

		{"no user", "-auth basic", m{"HEALTHD_BASIC": ":" + mark}, "HEALTHD_BASIC is not of the form name:secret, with both halves"},
		{"no password", "-auth basic", m{"HEALTHD_BASIC": mark + ":"}, "HEALTHD_BASIC is not of the form"},
		{"a password of white space", "-auth basic", m{"HEALTHD_BASIC": mark + ": "}, "HEALTHD_BASIC is not of the form"},
		{"no colon", "-auth basic", m{"HEALTHD_BASIC": mark}, "HEALTHD_BASIC is not of the form"},
		{"no access key", "-auth aksk", m{"HEALTHD_AKSK": ":" + mark}, "HEALTHD_AKSK is not of the form"},
		{"no secret key", "-auth aksk", m{"HEALTHD_AKSK": mark + ":"}, "HEALTHD_AKSK is not of the form"},
		{"an empty half of what only the token endpoint uses", "-auth jwt", m{"HEALTHD_JWT_SECRET": key32, "HEALTHD_BASIC": mark + ":"}, "HEALTHD_BASIC is not of the form"},

		{"a certificate without its key", "-tls-cert c", nil, "HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together"},
		{"a key without its certificate", "", m{"HEALTHD_TLS_KEY": "k"}, "HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tt.args, tt.env)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if strings.Contains(err.Error(), mark) {
				t.Errorf("the error tells a secret: %q", err)
			}
		})
	}
}

func TestALineOfAFileThatNoRequestCanCarryDoesNotParse(t *testing.T) {
	t.Parallel()
	pair, key := Secret{pair: true}, Secret{}
	long := mark + ":" + strings.Repeat("p", 4096-len(mark)-1)
	for _, tt := range []struct {
		name    string
		secret  Secret
		content string
		lines   []string // what does parse
		want    string   // in the error; none is wanted if empty
	}{
		{"every line in its order", pair, "b:2\na:1\nb:3", []string{"b:2", "a:1", "b:3"}, ""},
		{"blank lines, # lines, CRLF and white space", pair, "\r\n#a:1\r\n  b:2 \r\n\t# c:3\r\n \r\nd:#4\r\n", []string{"b:2", "d:#4"}, ""},
		{"more colons, and white space within", pair, "user:a b:c:", []string{"user:a b:c:"}, ""},
		{"letters beyond ASCII", pair, "zoë:雪 ☃", []string{"zoë:雪 ☃"}, ""},
		{"bytes count, not letters", key, strings.Repeat("é", 16), []string{strings.Repeat("é", 16)}, ""},
		{"4,096 bytes", pair, long, []string{long}, ""},

		{"nothing", pair, "", nil, "no line holds a credential"},
		{"no credential", key, "\r\n # " + key32 + "\n\t\n#", nil, "no line holds a credential"},
		{"a bad line among good ones", pair, "a:1\n\n" + mark + "\nb:2", []string{"a:1", "b:2"}, "line 3 is not of the form name:secret"},
		{"no name", pair, ":" + mark, nil, "line 1 is not of the form"},
		{"no secret", pair, mark + ": ", nil, "line 1 is not of the form"},
		{"white space after the colon", pair, "monitor: " + mark, nil, "line 1 is not of the form name:secret, with both halves and no white space beside the colon"},
		{"white space before the colon", pair, "monitor\u00a0:" + mark, nil, "line 1 is not of the form name:secret, with both halves and no white space beside the colon"},
		{"a short key", key, key32 + "\r\n" + key32[:31] + "\r\n", []string{key32}, "line 2 is 31 bytes; HS256 needs at least 32"},
		{"4,097 bytes", pair, long + "p", nil, "line 1 is 4097 bytes; a credential has at most 4096"},
		{"a key of 4,097 bytes", key, strings.Repeat("k", 4097), nil, "line 1 is 4097 bytes"},
		{"UTF-16, little endian", pair, "\xff\xfea\x00:\x001\x00", nil, "UTF-16"},
		{"UTF-16, big endian", pair, "\xfe\xff\x00a\x00:\x001", nil, "UTF-16"},
		{"UTF-16 that has no ASCII", pair, "\xff\xfe\xea\x96\x2d\x4e", nil, "UTF-16"},
		{"UTF-16 without its mark", pair, "a\x00:\x001\x00\n\x00", nil, "UTF-16"},
		{"Latin-1", pair, "zo\xeb:" + mark, nil, "line 1 is not UTF-8 text (Latin-1 or UTF-16, perhaps)"},
		{"a NUL", pair, "a:" + mark + "\x00", nil, "line 1 is not UTF-8 text"},
		{"a carriage return alone", pair, "a:1\rb:2\n", nil, "line 1 holds a control character"},
		{"a tab within", pair, "a:" + mark + "\tb", nil, "line 1 holds a control character"},
		{"a zero width space", key, key32 + "\u200b", nil, "line 1 holds a control character"},
		{"a mark in the midst, of files put together", pair, "a:1\n\ufeffb:2", []string{"a:1"}, "line 2 holds a control character"},
		{"a line separator", pair, "a:1\u2028b:2", nil, "line 1 holds a control character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines, err := tt.secret.Parse([]byte(tt.content))
			if !slices.Equal(lines, tt.lines) || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want %q, %q", lines, err, tt.lines, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), mark) {
				t.Errorf("the error tells a secret: %q", err)
			}
		})
	}
}

func TestSecretsAreTaken(t *testing.T) {
	t.Parallel()
	type m = map[string]string
	for _, tt := range []struct {
		name string
		env  m
		auth []string
		want map[string]string // by method: a line, or the setting and the path of a file
	}{
		{"a variable, without the white space around it", m{"HEALTHD_AUTH": "basic", "HEALTHD_BASIC": " user:pass word\t\r\n"},
			[]string{"basic"}, m{"basic": "user:pass word"}},
		{"a file", m{"HEALTHD_AUTH": "aksk", "HEALTHD_AKSK_FILE": "f"},
			[]string{"aksk"}, m{"aksk": "HEALTHD_AKSK_FILE f"}},
		{"methods in their order, white space aside", m{"HEALTHD_AUTH": " jwt , basic", "HEALTHD_JWT_SECRET": key32, "HEALTHD_BASIC": "a:1"},
			[]string{"jwt", "basic"}, m{"jwt": key32, "basic": "a:1"}},
		{"for the token endpoint, which does not lock", m{"HEALTHD_AUTH": "jwt", "HEALTHD_JWT_SECRET": key32, "HEALTHD_BASIC": "a:1", "HEALTHD_AKSK": "b:2"},
			[]string{"jwt"}, m{"jwt": key32, "basic": "a:1", "aksk": "b:2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := parse("", tt.env)
			if err != nil || !slices.Equal(c.Auth, tt.auth) || len(c.Secrets) != len(tt.want) {
				t.Fatalf("got %v, %v, %v", c.Auth, c.Secrets, err)
			}
			for method, want := range tt.want {
				s := c.Secrets[method]
				if got := s.Line; got != want && s.File.Setting+" "+s.File.Path != want {
					t.Errorf("%s is %q of %q, want %q", method, got, s.File, want)
				}
			}
		})
	}
}

func TestPlaintextAuth(t *testing.T) {
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
		{"TLS", Config{Addr: ":8080", Auth: []string{"basic"}, TLSCert: File{Path: "c"}}, false},
		{"no lock", Config{Addr: ":8080"}, false},
	} {
		if got := tt.c.PlaintextAuth(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
