package config

import (
	"cmp"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Secret is the credentials of one kind. The first is the one to sign or to
// probe with; every one is accepted.
type Secret struct {
	Lines []string // one credential each; none if the secret is not set
	Files []string // where to re-read Lines: one path, or none if the environment holds them

	isKey bool // of HS256; else a pair, name:secret
}

// check says what is wrong with a credential, and nothing of what it holds.
func (s Secret) check(line string) error {
	if s.isKey {
		if len(line) < 32 { // RFC 7518, section 3.2
			return fmt.Errorf("is %d bytes; HS256 needs at least 32 (openssl rand -base64 32)", len(line))
		}
		return nil
	}
	if name, secret, _ := strings.Cut(line, ":"); name == "" || secret == "" {
		return errors.New("is not of the form name:secret with both halves")
	}
	return nil
}

// Parse takes the content of one credential file: one a line, without the white
// space around it; blank lines and those that begin with # do not count. Beside
// an error it returns the lines that have none.
func (s Secret) Parse(contents [][]byte) (lines []string, err error) {
	for n, line := range strings.Split(string(contents[0]), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if wrong := s.check(line); wrong != nil {
			err = cmp.Or(err, fmt.Errorf("line %d %w", n+1, wrong))
			continue
		}
		lines = append(lines, line)
	}
	if lines == nil {
		err = cmp.Or(err, errors.New("no line holds a credential"))
	}
	return lines, err
}

// secret reads the setting name, a credential, or name_FILE, a file of them.
func secret(name string, isKey bool, getenv func(string) string) (s Secret, err error) {
	s.isKey = isKey
	value, file := strings.TrimSpace(getenv(name)), getenv(name+"_FILE")
	switch {
	case value != "" && file != "":
		err = fmt.Errorf("%s and %s_FILE are both set; keep one", name, name)
	case strings.Contains(value, "\n"):
		err = fmt.Errorf("%s holds several lines; put them in a file and name it in %s_FILE", name, name)
	case file != "":
		s.Files = []string{file}
		s.Lines, err = load(s.Parse, source{name + "_FILE", file})
	case value != "":
		s.Lines = []string{value}
		if err = s.check(value); err != nil {
			err = fmt.Errorf("%s %w", name, err)
		}
	}
	return s, err
}

// secrets reads the secret of every method, named in -auth or not: one that
// nothing uses shows a misspelt -auth. Those of the token endpoint are used.
func (c *Config) secrets(getenv func(string) string) (mistakes []error) {
	c.Secrets = make(map[string]Secret)
	var excused []error
	usable := false
	for _, kind := range [][2]string{{"basic", "HEALTHD_BASIC"}, {"aksk", "HEALTHD_AKSK"}, {"jwt", "HEALTHD_JWT_SECRET"}} {
		method, name := kind[0], kind[1]
		s, err := secret(name, method == "jwt", getenv)
		named := slices.Contains(c.Auth, method)
		switch {
		case err != nil && c.Probe && s.Files != nil:
			// The server that is asked has the last good content of the file; for
			// a probe, what is left of it may do, or another method.
			excused = append(excused, err)
		case err != nil:
			mistakes = append(mistakes, err)
			continue
		}
		switch {
		case s.Lines != nil && (named || slices.Contains(c.Auth, "jwt")):
			c.Secrets[method] = s
			usable = usable || named
		case s.Lines != nil:
			mistakes = append(mistakes, fmt.Errorf("%s is set and nothing uses it: name %s in -auth (HEALTHD_AUTH)", name, method))
		case named && err == nil:
			mistakes = append(mistakes, fmt.Errorf("-auth (HEALTHD_AUTH) names %s: set %s or %s_FILE", method, name, name))
		}
	}
	if !usable {
		mistakes = append(mistakes, excused...)
	}
	return mistakes
}

// methods takes the list of -auth.
func (c *Config) methods(list string) error {
	for method := range strings.SplitSeq(list, ",") {
		method = strings.TrimSpace(method)
		if method != "basic" && method != "aksk" && method != "jwt" || slices.Contains(c.Auth, method) {
			return errors.New("use a list of basic, aksk, jwt, such as basic,jwt")
		}
		c.Auth = append(c.Auth, method)
	}
	return nil
}

// certificate reads the pair of TLS files, if it is set.
func (c *Config) certificate() (err error) {
	switch {
	case c.TLSCert == "" && c.TLSKey == "":
		return nil
	case c.TLSCert == "" || c.TLSKey == "":
		return errors.New("-tls-cert and -tls-key (HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together; set both")
	}
	cert, key := source{"-tls-cert (HEALTHD_TLS_CERT)", c.TLSCert}, source{"-tls-key (HEALTHD_TLS_KEY)", c.TLSKey}
	if c.Probe {
		c.Certificate, err = load(parsePin, cert)
	} else {
		c.Certificate, err = load(ParseCertificate, cert, key)
	}
	return err
}

// parsePin takes the first certificate, which is all that a probe needs: the
// key may be on its way.
func parsePin(contents [][]byte) (pin tls.Certificate, err error) {
	for block, rest := pem.Decode(contents[0]); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return tls.Certificate{Certificate: [][]byte{block.Bytes}}, nil
		}
	}
	return pin, errors.New("no certificate in PEM form")
}

// ParseCertificate takes a PEM certificate, with its chain, and its PEM key.
func ParseCertificate(contents [][]byte) (tls.Certificate, error) {
	return tls.X509KeyPair(contents[0], contents[1])
}

// source is the path of a file and the setting that holds it.
type source struct{ setting, path string }

// load reads and parses files. It tries again at once: files that are swapped
// together may be gone, or not fit each other, for the moment between two reads.
// An error names the settings and no path: a secret may stand in its place.
func load[T any](parse func([][]byte) (T, error), files ...source) (value T, err error) {
	for range 3 {
		if value, err = read(parse, files); err == nil {
			break
		}
	}
	return value, err
}

func read[T any](parse func([][]byte) (T, error), files []source) (value T, err error) {
	contents, settings := make([][]byte, len(files)), make([]string, len(files))
	for i, f := range files {
		settings[i] = f.setting
		if contents[i], err = os.ReadFile(f.path); err != nil {
			return value, fmt.Errorf("%s: %w", f.setting, errors.Unwrap(err))
		}
	}
	if value, err = parse(contents); err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(settings, ", "), err)
	}
	return value, err
}
