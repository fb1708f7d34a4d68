package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Secret is where the credentials of one method are: in a variable or a file.
type Secret struct {
	Line string // the credential of the variable, checked
	File File   // the other form
	pair bool   // name:secret, and not a key
}

// Parse returns the credentials of a file, one a line, without the white space around them. Blank
// lines and # lines do not count. Beside an error it returns the good lines.
func (s Secret) Parse(content []byte) (lines []string, err error) {
	for n, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		switch wrong := s.check(line); {
		case line == "" || line[0] == '#':
		case wrong != nil:
			err = cmp.Or(err, fmt.Errorf("line %d %w", n+1, wrong))
		default:
			lines = append(lines, line)
		}
	}
	if lines == nil {
		err = cmp.Or(err, errors.New("no line holds a credential"))
	}
	return lines, err
}

// check says what is wrong with a credential, and nothing of what it holds.
func (s Secret) check(line string) error {
	invisible := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	switch name, secret, _ := strings.Cut(line, ":"); {
	case strings.ContainsRune(line, 0) || !utf8.ValidString(line):
		return errors.New("is not UTF-8 text (Latin-1 or UTF-16, perhaps); save it as UTF-8")
	case strings.ContainsFunc(line, invisible):
		return errors.New("holds a control character (a line end, perhaps) or an invisible one")
	case len(line) > 4096:
		return fmt.Errorf("is %d bytes; a credential has at most 4096, to fit a header", len(line))
	case !s.pair && len(line) < 32: // RFC 7518, section 3.2
		return fmt.Errorf("is %d bytes; HS256 needs at least 32 (openssl rand -hex 32)", len(line))
	case s.pair && (name == "" || secret == "" || strings.TrimSpace(name) != name || strings.TrimSpace(secret) != secret):
		return errors.New("is not of the form name:secret, with both halves and no white space beside the colon")
	}
	return nil
}

// secrets takes every method's secret: one that nothing uses shows a misspelt -auth.
func (c *Config) secrets(getenv func(string) string, mistake func(string, ...any)) {
	c.Secrets = make(map[string]Secret)
	for _, kind := range [][2]string{{"basic", "HEALTHD_BASIC"}, {"aksk", "HEALTHD_AKSK"}, {"jwt", "HEALTHD_JWT_SECRET"}} {
		method, name := kind[0], kind[1]
		s := Secret{strings.TrimSpace(getenv(name)), File{name + "_FILE", getenv(name + "_FILE")}, method != "jwt"}
		variable, file, named := s.Line != "", s.File.Path != "", slices.Contains(c.Auth, method)
		used := named || slices.Contains(c.Auth, "jwt") // by /token
		switch wrong := s.check(s.Line); {
		case !variable && !file && !named:
			continue
		case variable == file:
			mistake("set %s or %s, and not both, for %s in -auth (HEALTHD_AUTH)", name, s.File.Setting, method)
		case !used:
			given := map[bool]string{variable: name, file: s.File.Setting}[true]
			mistake("%s is set and nothing uses it: name %s in -auth (HEALTHD_AUTH)", given, method)
		case variable && wrong != nil:
			mistake("%s %v", name, wrong)
		}
		c.Secrets[method] = s
	}
}
