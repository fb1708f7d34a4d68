// Package config reads the command line and the environment into one [Config]
// and refuses every mistake it finds there. It knows nothing of HTTP.
package config

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config is what the user set, checked and with the defaults filled in.
type Config struct {
	Version bool   // print the version and do nothing else
	Probe   bool   // be the client, not the server
	URL     string // what the probe asks; empty is the instance that Addr describes

	Addr    string        // listen address, host:port
	Drain   time.Duration // how long to answer "draining" after SIGTERM, 0 or more
	Verbose bool          // log every request

	Targets  []*url.URL    // what /health speaks for: tcp, unix, http, https
	Interval time.Duration // between the checks of a target, more than 0
	Timeout  time.Duration // of a check and of a probe, more than 0

	Auth    []string          // methods that lock /health, in the order named: basic, aksk, jwt
	Secrets map[string]Secret // by method: those of Auth, and those of the token endpoint

	TLSCert, TLSKey string // PEM files; both or neither
	Certificate     tls.Certificate
}

// Clear reports whether credentials will cross a network in clear text.
func (c Config) Clear() bool {
	host, _, _ := net.SplitHostPort(c.Addr)
	ip, err := netip.ParseAddr(host)
	local := host == "localhost" || err == nil && ip.IsLoopback()
	return len(c.Auth) > 0 && c.TLSCert == "" && !local
}

// Parse reads args, the command line without the program's name, and the
// environment. A flag wins over its variable, and an empty variable is an
// unset one. The error wraps [flag.ErrHelp] if help was asked for; any other
// is one line that names the settings and the mend and repeats no value, for it
// may be a misplaced secret.
func Parse(args []string, getenv func(string) string) (Config, error) {
	c := Config{Addr: ":8080", Drain: 5 * time.Second, Interval: 5 * time.Second, Timeout: time.Second}
	if len(args) > 0 && args[0] == "probe" {
		c.Probe = true
		args = args[1:]
	}
	settings := []struct {
		flag, env string
		set       func(string) error
	}{
		{"addr", "HEALTHD_ADDR", func(s string) error { c.Addr = s; return address(s) }},
		{"auth", "HEALTHD_AUTH", c.methods},
		{"drain", "HEALTHD_DRAIN", duration(&c.Drain, 0)},
		{"interval", "HEALTHD_INTERVAL", duration(&c.Interval, 1)},
		{"target", "HEALTHD_TARGETS", c.target},
		{"timeout", "HEALTHD_TIMEOUT", duration(&c.Timeout, 1)},
		{"tls-cert", "HEALTHD_TLS_CERT", func(s string) error { c.TLSCert = s; return nil }},
		{"tls-key", "HEALTHD_TLS_KEY", func(s string) error { c.TLSKey = s; return nil }},
		{"verbose", "HEALTHD_VERBOSE", c.verbose},
	}
	flags := flag.NewFlagSet("healthd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolFunc("version", "", func(string) error { c.Version = true; return nil })
	given := make(map[string][]string) // by flag
	for _, s := range settings {
		note := func(value string) error { given[s.flag] = append(given[s.flag], value); return nil }
		if s.flag == "verbose" {
			flags.BoolFunc(s.flag, "", note)
		} else {
			flags.Func(s.flag, "", note)
		}
	}
	if err := flags.Parse(args); err != nil {
		return c, fmt.Errorf("%w (healthd -h lists the settings)", err)
	}
	if c.Version {
		return c, nil
	}
	mistakes := []error{c.arguments(flags.Args())}
	for _, s := range settings {
		name, values := "-"+s.flag, given[s.flag]
		value, port := getenv(s.env), getenv("PORT")
		switch {
		case values != nil:
		case value == "" && port != "" && s.flag == "addr":
			name, values = "PORT", []string{":" + port}
		case value != "" && s.flag == "target":
			name, values = s.env, strings.Split(value, ",")
		case value != "":
			name, values = s.env, []string{value}
		}
		for _, value := range values {
			if err := s.set(strings.TrimSpace(value)); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	mistakes = append(mistakes, c.secrets(getenv)...)
	mistakes = append(mistakes, c.certificate())
	if err := errors.Join(mistakes...); err != nil {
		return c, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return c, nil
}

// arguments takes what stands after the flags. It is not repeated in an error:
// a misplaced secret may be among it.
func (c *Config) arguments(args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !c.Probe:
		return errors.New(`unexpected argument: healthd takes flags only, or "probe" as its first word`)
	case len(args) > 1:
		return errors.New("unexpected argument: healthd probe takes one URL, after the flags")
	}
	c.URL = args[0]
	switch u, err := url.Parse(c.URL); {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !portFits(u):
		return errors.New("the URL to probe must begin with http:// or https:// and name a host")
	case u.User != nil:
		return errors.New("the URL to probe must not hold a user or a password")
	}
	return nil
}

// target takes one of what /health speaks for.
func (c *Config) target(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("use tcp://host:port, unix:///path, http://host or https://host")
	case u.User != nil || u.Fragment != "":
		return errors.New("leave out user, password and fragment")
	case u.Scheme == "tcp":
		if u.Port() == "" || !portFits(u) || u.Hostname() == "" || u.Path+u.RawQuery != "" {
			return errors.New("use tcp://host:port")
		}
	case u.Scheme == "unix":
		if u.Host != "" || u.Path == "" || u.RawQuery != "" {
			return errors.New("use unix:///path")
		}
	case u.Scheme == "http" || u.Scheme == "https":
		if u.Hostname() == "" || !portFits(u) {
			return errors.New("use http://host or http://host:port, and a path")
		}
	default:
		return errors.New("use one of the schemes tcp, unix, http, https")
	}
	c.Targets = append(c.Targets, u)
	return nil
}

// portFits reports whether the port of u, if it has one, can be connected to.
func portFits(u *url.URL) bool {
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" || err == nil && n > 0
}

// address checks a host:port.
func address(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && host != "" && strings.Trim(host, "0123456789.") == "" {
		_, err = netip.ParseAddr(host)
	}
	if err != nil || strings.ContainsAny(host, " /@") {
		return errors.New("use host:port or :port, such as :8080")
	}
	return nil
}

func duration(dst *time.Duration, least time.Duration) func(string) error {
	return func(s string) (err error) {
		switch *dst, err = time.ParseDuration(s); {
		case err != nil:
			return errors.New("use a number and a unit, such as 5s or 500ms")
		case *dst < least:
			return errors.New("use a time of more than 0 (or, for -drain, of 0)")
		}
		return nil
	}
}

func (c *Config) verbose(s string) (err error) {
	if c.Verbose, err = strconv.ParseBool(s); err != nil {
		return errors.New("use true or false")
	}
	return nil
}
