// Package config reads the command line and the environment into one [Config] and refuses
// every mistake it finds there. It opens no file and knows nothing of HTTP.
package config

import (
	_ "embed" // help.txt
	"errors"
	"flag"
	"fmt"
	"io"
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

	TLSCert, TLSKey File // PEM; both or neither
}

// File is a file that a setting names. Nothing here reads it.
type File struct{ Setting, Path string }

// Help is the reference page that -h prints.
//
//go:embed help.txt
var Help string

// Parse reads args, the command line without the program's name, and the environment. A flag
// wins over its variable, and an empty variable is an unset one. The error is [flag.ErrHelp]
// if help was asked for; any other is one line that names the settings and the mend, and
// repeats no value: it may be a misplaced secret.
func Parse(args []string, getenv func(string) string) (Config, error) {
	c := Config{Addr: ":8080", Drain: 5 * time.Second, Interval: 5 * time.Second, Timeout: time.Second}
	if len(args) > 0 && args[0] == "probe" {
		c.Probe = true
		args = args[1:]
	}
	settings := []struct {
		flag, env string
		set       func(name, value string) error // name is the one of the two that was given
	}{
		{"addr", "HEALTHD_ADDR", c.address},
		{"auth", "HEALTHD_AUTH", c.methods},
		{"drain", "HEALTHD_DRAIN", duration(&c.Drain, 0)},
		{"interval", "HEALTHD_INTERVAL", duration(&c.Interval, 1)},
		{"target", "HEALTHD_TARGETS", c.target},
		{"timeout", "HEALTHD_TIMEOUT", duration(&c.Timeout, 1)},
		{"tls-cert", "HEALTHD_TLS_CERT", file(&c.TLSCert)},
		{"tls-key", "HEALTHD_TLS_KEY", file(&c.TLSKey)},
		{"verbose", "HEALTHD_VERBOSE", boolean(&c.Verbose)},
		{"version", "", boolean(&c.Version)},
	}
	var mistakes []error
	set := func(set func(name, value string) error, name, value string) {
		if err := set(name, strings.TrimSpace(value)); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", name, err))
		}
	}
	flags := flag.NewFlagSet("healthd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	given := make(map[string]bool) // by flag
	for _, s := range settings {
		define := flags.Func
		if s.flag == "verbose" || s.flag == "version" {
			define = flags.BoolFunc
		}
		define(s.flag, "", func(value string) error {
			given[s.flag] = true
			set(s.set, "-"+s.flag, value)
			return nil
		})
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return c, err
	case err != nil && strings.HasPrefix(err.Error(), "flag needs an argument"): // and names a known flag
		return c, fmt.Errorf("%w (healthd -h lists the settings)", err)
	case err != nil:
		return c, fmt.Errorf("unknown flag, number %d of the arguments (healthd -h lists the settings)", len(args)-flags.NArg())
	case c.Version:
		return c, nil
	}
	for _, s := range settings {
		switch value, port := getenv(s.env), getenv("PORT"); {
		case given[s.flag]:
		case s.flag == "addr" && value == "" && port != "":
			set(s.set, "PORT", ":"+port)
		case s.flag == "target" && value != "":
			for one := range strings.SplitSeq(value, ",") {
				set(s.set, s.env, one)
			}
		case value != "":
			set(s.set, s.env, value)
		}
	}
	mistakes = append(append(mistakes, c.arguments(flags.Args())), c.secrets(getenv)...)
	if (c.TLSCert.Path == "") != (c.TLSKey.Path == "") {
		mistakes = append(mistakes, errors.New("-tls-cert and -tls-key (HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together; set both"))
	}
	if err := errors.Join(mistakes...); err != nil {
		return c, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return c, nil
}

// arguments takes what follows the flags: nothing, or the URL to probe.
func (c *Config) arguments(args []string) error {
	if c.Probe && len(args) > 0 {
		u, err := url.Parse(args[0])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !portFits(u) || u.User != nil {
			return errors.New("the URL to probe must begin with http:// or https:// and name a host, but no user or password")
		}
		c.URL, args = args[0], args[1:]
	}
	switch {
	case len(args) == 0:
		return nil
	case strings.Contains(args[0], ":") || len(args[0]) >= 16: // like a secret
		args[0] = "(not shown)"
	}
	return fmt.Errorf("unexpected argument %q: healthd takes flags, healthd probe takes flags and then one URL", args[0])
}

func duration(dst *time.Duration, least time.Duration) func(name, value string) error {
	return func(_, value string) (err error) {
		if *dst, err = time.ParseDuration(value); err != nil || *dst < least {
			return errors.New("use a number and a unit, such as 5s or 500ms: more than 0, or for -drain also 0")
		}
		return nil
	}
}

func boolean(dst *bool) func(name, value string) error {
	return func(_, value string) (err error) {
		if *dst, err = strconv.ParseBool(value); err != nil {
			return errors.New("use true or false")
		}
		return nil
	}
}

func file(dst *File) func(name, value string) error {
	return func(name, value string) error { *dst = File{name, value}; return nil }
}
