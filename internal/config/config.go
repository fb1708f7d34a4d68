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
// unset one. The error is [flag.ErrHelp] if help was asked for; any other
// names the setting and the mend in one line, and holds no secret.
func Parse(args []string, getenv func(string) string) (Config, error) {
	c := Config{Addr: ":8080", Drain: 5 * time.Second, Interval: 5 * time.Second, Timeout: time.Second}
	if len(args) > 0 && args[0] == "probe" {
		c.Probe = true
		args = args[1:]
	}
	flags := flag.NewFlagSet("healthd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("addr", "", address(&c.Addr))
	flags.Func("drain", "", duration(&c.Drain, 0))
	var targets []string
	flags.Func("target", "", func(s string) error { targets = append(targets, s); return nil })
	flags.Func("interval", "", duration(&c.Interval, 1))
	flags.Func("timeout", "", duration(&c.Timeout, 1))
	flags.BoolFunc("verbose", "", boolean(&c.Verbose))
	flags.Func("auth", "", c.methods)
	flags.StringVar(&c.TLSCert, "tls-cert", "", "")
	flags.StringVar(&c.TLSKey, "tls-key", "", "")
	flags.BoolVar(&c.Version, "version", false, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return c, err
	} else if err != nil {
		return c, fmt.Errorf("%w (healthd -h lists the settings)", err)
	}
	if c.Version {
		return c, nil
	}
	mistakes := environment(flags, getenv)
	mistakes = append(mistakes, c.arguments(flags.Args()))
	mistakes = append(mistakes, c.secrets(getenv)...)
	mistakes = append(mistakes, c.certificate(), c.targets(targets))
	return c, oneLine(mistakes)
}

// environment sets each flag that is not on the command line from its variable.
func environment(flags *flag.FlagSet, getenv func(string) string) (mistakes []error) {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	flags.VisitAll(func(f *flag.Flag) {
		if given[f.Name] || f.Name == "version" {
			return
		}
		name := "HEALTHD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if f.Name == "target" {
			name = "HEALTHD_TARGETS"
		}
		value := getenv(name)
		if port := getenv("PORT"); f.Name == "addr" && value == "" && port != "" {
			name, value = "PORT", ":"+port
		}
		if value == "" {
			return
		}
		values := []string{value}
		if f.Name == "target" {
			values = strings.Split(value, ",")
		}
		for _, value := range values {
			if err := flags.Set(f.Name, strings.TrimSpace(value)); err != nil {
				mistakes = append(mistakes, fmt.Errorf("invalid value %q for %s: %w", value, name, err))
			}
		}
	})
	return mistakes
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
	u, err := url.Parse(args[0])
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("the URL to probe must begin with http:// or https:// and name a host")
	}
	if u.User != nil {
		return errors.New("the URL to probe must not hold a user or a password")
	}
	c.URL = args[0]
	return nil
}

// targets takes what /health speaks for. A target is not repeated in an error:
// it may hold a password.
func (c *Config) targets(list []string) error {
	for i, s := range list {
		u, err := url.Parse(s)
		mend := ""
		switch {
		case err != nil:
			mend = "use tcp://host:port, unix:///path, http://host or https://host"
		case u.User != nil || u.Fragment != "":
			mend = "leave out user, password and fragment"
		case u.Scheme == "tcp":
			if address(new(string))(u.Host) != nil || u.Hostname() == "" || u.Path+u.RawQuery != "" {
				mend = "use tcp://host:port"
			}
		case u.Scheme == "unix":
			if u.Host != "" || u.Path == "" || u.RawQuery != "" {
				mend = "use unix:///path"
			}
		case u.Scheme == "http" || u.Scheme == "https":
			if u.Hostname() == "" || u.Port() != "" && address(new(string))(u.Host) != nil {
				mend = "use http://host or http://host:port, and a path"
			}
		default:
			mend = "use one of the schemes tcp, unix, http, https"
		}
		if mend != "" {
			return fmt.Errorf("-target (HEALTHD_TARGETS), number %d: %s", i+1, mend)
		}
		c.Targets = append(c.Targets, u)
	}
	return nil
}

func address(dst *string) func(string) error {
	return func(s string) error {
		host, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err == nil && strings.Trim(host, "0123456789.") == "" && host != "" {
			_, err = netip.ParseAddr(host)
		}
		if err != nil || strings.ContainsAny(host, " /@") {
			return errors.New("use host:port or :port, such as :8080")
		}
		*dst = s
		return nil
	}
}

func duration(dst *time.Duration, least time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New("use a number and a unit, such as 5s or 500ms")
		}
		if d < least {
			return errors.New("use a longer time")
		}
		*dst = d
		return nil
	}
}

func boolean(dst *bool) func(string) error {
	return func(s string) (err error) {
		if *dst, err = strconv.ParseBool(s); err != nil {
			return errors.New("use true or false")
		}
		return nil
	}
}

// oneLine joins the mistakes, so that a log keeps them together.
func oneLine(mistakes []error) error {
	if err := errors.Join(mistakes...); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}
