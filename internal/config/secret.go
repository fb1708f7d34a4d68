package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	minKey        = 32   // bytes of an HS256 key (RFC 7518, section 3.2)
	maxCredential = 4096 // bytes, to fit a request's header
)

// Secret is where the credentials of one method are: in a variable or a file.
type Secret struct {
	Line string // the credential of the variable, checked
	File File   // the other form
	pair bool   // name:secret, and not a key
}

// Parse takes the content of a credential file: one a line, without the white space around
// it; blank lines and those that begin with # do not count, nor does a byte order mark.
// Beside an error it returns the lines that have none.
func (s Secret) Parse(content []byte) (lines []string, err error) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, errors.New("the file is UTF-16; save it as UTF-8")
	}
	for n, line := range strings.Split(string(content), "\n") {
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

// check says what is wrong with a credential, and nothing of what it holds.
func (s Secret) check(line string) error {
	invisible := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	name, secret, _ := strings.Cut(line, ":")
	switch {
	case strings.ContainsRune(line, 0):
		return errors.New("holds a NUL, as UTF-16 does; save it as UTF-8")
	case !utf8.ValidString(line):
		return errors.New("is not UTF-8 (Latin-1, perhaps); save it as UTF-8")
	case strings.ContainsFunc(line, invisible):
		return errors.New("holds a control character (a line end, perhaps) or an invisible one")
	case len(line) > maxCredential:
		return fmt.Errorf("is %d bytes; a credential has at most %d", len(line), maxCredential)
	case !s.pair && len(line) < minKey:
		return fmt.Errorf("is %d bytes; HS256 needs at least %d (openssl rand -hex 32)", len(line), minKey)
	case s.pair && (name == "" || secret == ""):
		return errors.New("is not of the form name:secret with both halves")
	case s.pair && (strings.TrimSpace(name) != name || strings.TrimSpace(secret) != secret):
		return errors.New("has white space beside the colon, which no request can carry")
	}
	return nil
}

// secrets takes the secret of every method, named in -auth or not: one that nothing uses
// shows a misspelt -auth. With jwt, all are used, by /token.
func (c *Config) secrets(getenv func(string) string) (mistakes []error) {
	c.Secrets = make(map[string]Secret)
	for _, kind := range [][2]string{{"basic", "HEALTHD_BASIC"}, {"aksk", "HEALTHD_AKSK"}, {"jwt", "HEALTHD_JWT_SECRET"}} {
		method, name := kind[0], kind[1]
		s := Secret{strings.TrimSpace(getenv(name)), File{name + "_FILE", getenv(name + "_FILE")}, method != "jwt"}
		variable, inFile, named := s.Line != "", s.File.Path != "", slices.Contains(c.Auth, method)
		var mistake error
		switch {
		case variable && inFile:
			mistake = fmt.Errorf("%s and %s are both set; keep one", name, s.File.Setting)
		case named && !variable && !inFile:
			mistake = fmt.Errorf("-auth (HEALTHD_AUTH) names %s: set %s or %s", method, name, s.File.Setting)
		case !variable && !inFile:
			continue
		case !named && !slices.Contains(c.Auth, "jwt"):
			if inFile {
				name = s.File.Setting
			}
			mistake = fmt.Errorf("%s is set and nothing uses it: name %s in -auth (HEALTHD_AUTH)", name, method)
		case variable:
			if wrong := s.check(s.Line); wrong != nil {
				mistake = fmt.Errorf("%s %w", name, wrong)
			}
		}
		c.Secrets[method] = s
		mistakes = append(mistakes, mistake)
	}
	return mistakes
}

// methods takes the list of -auth.
func (c *Config) methods(_, list string) error {
	for method := range strings.SplitSeq(list, ",") {
		method = strings.TrimSpace(method)
		if method != "basic" && method != "aksk" && method != "jwt" || slices.Contains(c.Auth, method) {
			return errors.New("use a list of basic, aksk, jwt, such as basic,jwt")
		}
		c.Auth = append(c.Auth, method)
	}
	return nil
}
