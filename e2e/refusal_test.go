//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// No way leads from a mistake to a server that is believed locked and is not,
// nor to a secret in a log.
func TestAMistakeAboutSecretsIsRefusedAtStart(t *testing.T) {
	pair, key := newPair(), newKey()
	crt, other := newCertificate(t, ecdsaKey(t)), newCertificate(t, ecdsaKey(t))
	crtFile, keyFile, otherFile := written(t, crt.cert), written(t, crt.key), written(t, other.key)
	const auth, basic, jwt = "HEALTHD_AUTH", "HEALTHD_BASIC", "HEALTHD_JWT_SECRET"
	for _, row := range []struct {
		name string
		env  []string
		args []string
		says string // the setting
	}{
		{"an unknown method", []string{auth + "=basik", basic + "=" + pair}, nil, auth},
		{"a method twice", []string{auth + "=basic,basic", basic + "=" + pair}, nil, auth},
		{"a method without its credential", []string{auth + "=jwt,basic", basic + "=" + pair}, nil, jwt},
		{"a credential without its method", []string{basic + "=" + pair}, nil, basic},
		{"a credential that another method needs", []string{auth + "=aksk", "HEALTHD_AKSK=" + pair, jwt + "=" + key}, nil, jwt},
		{"both forms of a secret", []string{auth + "=basic", basic + "=" + pair, basic + "_FILE=" + written(t, pair)}, nil, basic + "_FILE"},
		{"no password", []string{auth + "=basic", basic + "=" + newKey() + ":"}, nil, basic},
		{"no user", []string{auth + "=basic", basic + "=:" + newKey()}, nil, basic},
		{"no colon", []string{auth + "=basic", basic + "=" + newKey()}, nil, basic},
		{"several lines in a variable", []string{auth + "=basic", basic + "=" + pair + "\n" + newPair()}, nil, basic},
		{"a short key", []string{auth + "=jwt", jwt + "=" + keep(key[:31])}, nil, "openssl rand"},
		{"an empty file", []string{auth + "=basic", basic + "_FILE=" + written(t, "\n# none\n")}, nil, basic + "_FILE"},
		{"to serve with, a file with a bad line", []string{auth + "=basic", basic + "_FILE=" + written(t, pair+"\n"+newKey())}, nil, basic + "_FILE"},
		{"to serve with, a file with a short key", []string{auth + "=jwt", jwt + "_FILE=" + written(t, key+"\n"+key[:31])}, nil, jwt + "_FILE"},
		{"no such file", []string{auth + "=basic", basic + "_FILE=" + t.TempDir() + "/none"}, nil, basic + "_FILE"},
		{"a directory", []string{auth + "=basic", basic + "_FILE=" + t.TempDir()}, nil, basic + "_FILE"},
		{"a secret where its file's name belongs", []string{auth + "=basic", basic + "_FILE=" + pair}, nil, basic + "_FILE"},
		{"a secret where the methods belong", []string{auth + "=" + pair}, nil, auth},
		{"a certificate without its key", nil, []string{"-tls-cert", crtFile}, "-tls-key"},
		{"a key without its certificate", []string{"HEALTHD_TLS_KEY=" + keyFile}, nil, "-tls-cert"},
		{"to serve with, a key that does not fit", nil, []string{"-tls-cert", crtFile, "-tls-key", otherFile}, "-tls-key"},
		{"a certificate and a key the wrong way round", nil, []string{"-tls-cert", keyFile, "-tls-key", crtFile}, "-tls-cert"},
		{"to serve with, a key where its file's name belongs", []string{"HEALTHD_TLS_CERT=" + crtFile, "HEALTHD_TLS_KEY=" + crt.key}, nil, "HEALTHD_TLS_KEY"},
		{"a flag for a secret", nil, []string{"-basic", "user:password"}, "unknown flag"},
		{"a secret in a flag's place", nil, []string{"-user:opensesame"}, "unknown flag"},
		{"a secret among the arguments", nil, []string{"-verbose", "http://a/", "user:opensesame"}, "unexpected argument"},
	} {
		t.Run(row.name, func(t *testing.T) {
			commands := [][]string{nil, {"probe"}}
			if strings.HasPrefix(row.name, "to serve with, ") {
				commands = commands[:1] // a probe makes do with what is left
			}
			for _, first := range commands {
				p := spawn(t, nil, append([]string{"HEALTHD_ADDR=" + host + ":0"}, row.env...), binary(), append(first, row.args...)...)
				code, said := p.wait(t, patience), p.stderr.String()
				if code != 2 || p.stdout.String() != "" || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") || !strings.Contains(said, row.says) || strings.Contains(said, "opensesame") {
					t.Errorf("healthd %q: exit code %d, %q, %q; want 2 and one line on stderr that says %s", first, code, p.stdout.String(), said, row.says)
				}
			}
		})
	}
}
