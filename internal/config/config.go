// Package config reads the command line and the environment into one [Config] and refuses
// every mistake it finds there. It opens no file and knows nothing of HTTP.
package config

import (
	"cmp"
	_ "embed" // help.txt
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is what the user set, checked and with the defaults filled in.
type Config struct {
	Help, Version     bool              // print that and do nothing else
	Probe             bool              // be the client, not the server
	URL               string            // what the probe asks, beside which Addr, TLSCert and TLSKey are empty
	Addr              string            // host:port to listen on, or without a URL to probe
	Drain             time.Duration     // how long to answer "draining" after SIGTERM, 0 or more
	Verbose           bool              // log every request
	Targets           []*url.URL        // what /health speaks for: tcp, unix, http, https
	Interval, Timeout time.Duration     // of the targets' checks, more than 0; Timeout is also the probe's
	Auth              []string          // methods that lock /health, in the order named: basic, aksk, jwt
	Secrets           map[string]Secret // by method: those of Auth, and those of the token endpoint
	TLSCert, TLSKey   File              // PEM; both or neither
}

type File struct{ Setting, Path string } // that a setting names; nothing here reads it

//go:embed help.txt
var Help string // the page that -h prints

// Parse reads the command line, without the program's name, and the environment. A flag wins over
// its variable, and an empty variable is an unset one. The error is one line that names the
// settings and the mend, but repeats no value: it may be a misplaced secret.
func Parse(args []string, getenv func(string) string) (Config, error) {
	c, n := Config{Addr: ":8080", Drain: 5 * time.Second, Interval: 5 * time.Second, Timeout: time.Second}, len(args)
	if len(args) > 0 && args[0] == "probe" {
		c.Probe, args = true, args[1:]
	}
	settings := []struct {
		flag, env string
		dst       any
	}{
		{"addr", "HEALTHD_ADDR", &c.Addr},
		{"auth", "HEALTHD_AUTH", &c.Auth},
		{"drain", "HEALTHD_DRAIN", &c.Drain},
		{"interval", "HEALTHD_INTERVAL", &c.Interval},
		{"target", "HEALTHD_TARGETS", &c.Targets},
		{"timeout", "HEALTHD_TIMEOUT", &c.Timeout},
		{"tls-cert", "HEALTHD_TLS_CERT", &c.TLSCert},
		{"tls-key", "HEALTHD_TLS_KEY", &c.TLSKey},
		{"verbose", "HEALTHD_VERBOSE", &c.Verbose},
		{"version", "", &c.Version},
	}
	flags := flag.NewFlagSet("healthd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	given := make(map[string][]string) // by flag
	for _, s := range settings {
		define := flags.Func
		if _, is := s.dst.(*bool); is {
			define = flags.BoolFunc
		}
		define(s.flag, "", func(value string) error { given[s.flag] = append(given[s.flag], value); return nil })
	}
	switch err := flags.Parse(args); {
	case err == flag.ErrHelp:
		return Config{Help: true}, nil
	case err != nil && strings.HasPrefix(err.Error(), "flag needs an argument"): // and names a known flag
		return c, fmt.Errorf("%w (healthd -h lists the settings)", err)
	case err != nil:
		return c, fmt.Errorf("unknown flag, number %d of the arguments (healthd -h lists the settings)", n-flags.NArg())
	}
	var mistakes []string
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Sprintf(format, args...)) }
	for _, s := range settings {
		name, values := "-"+s.flag, given[s.flag]
		switch value, port := getenv(s.env), getenv("PORT"); {
		case values != nil:
		case s.flag == "addr" && value == "" && port != "":
			name, values = "PORT", []string{":" + port}
		case s.flag == "target" && value != "":
			name, values = s.env, strings.Split(value, ",")
		case value != "":
			name, values = s.env, []string{value}
		}
		for _, value := range values {
			if fits, mend := c.set(s.dst, name, strings.TrimSpace(value)); !fits {
				mistake("%s: use %s", name, mend)
			}
		}
	}
	c.secrets(getenv, mistake)
	if (c.TLSCert.Path == "") != (c.TLSKey.Path == "") {
		mistake("-tls-cert and -tls-key (HEALTHD_TLS_CERT, HEALTHD_TLS_KEY) go together; set both")
	}
	if args = flags.Args(); c.Probe && len(args) > 0 {
		if u, fits := endpoint(args[0]); !fits || u.Scheme != "http" && u.Scheme != "https" {
			mistake("the URL to probe must begin with http:// or https:// and name a host, but no user, password or fragment")
		}
		c.URL, c.Addr, c.TLSCert, c.TLSKey, args = args[0], "", File{}, File{}, args[1:]
	}
	if len(args) > 0 {
		first := args[0]
		if strings.Contains(first, ":") || len(first) >= 16 { // like a secret
			first = "(not shown)"
		}
		mistake("unexpected argument %q: healthd takes flags, healthd probe flags and then one URL (healthd -h lists them)", first)
	}
	if len(mistakes) > 0 && !c.Version {
		return c, errors.New(strings.Join(mistakes, "; "))
	}
	return c, nil
}

// set puts value into dst, a field of c, and reports whether it fits there, or else what does.
func (c *Config) set(dst any, name, value string) (fits bool, mend string) {
	var err error
	switch dst := dst.(type) {
	case *bool:
		*dst, err = strconv.ParseBool(value)
		return err == nil, "true or false"
	case *time.Duration:
		*dst, err = time.ParseDuration(value)
		fits = err == nil && (*dst > 0 || *dst == 0 && dst == &c.Drain)
		return fits, "a number and a unit, such as 5s or 500ms: more than 0, or for -drain also 0"
	case *string: // to listen on
		*dst = value
		host, port, _ := net.SplitHostPort(value)
		_, err = strconv.ParseUint(port, 10, 16)
		badIP := strings.Trim(host, "0123456789.") == "" && net.ParseIP(cmp.Or(host, "::")) == nil
		return err == nil && !badIP && !strings.ContainsAny(host, " /@"), "host:port or :port, such as :8080 (of PORT, the port alone)"
	case *[]string:
		fits = true
		for method := range strings.SplitSeq(value, ",") {
			method = strings.TrimSpace(method)
			fits = fits && slices.Contains([]string{"basic", "aksk", "jwt"}, method) && !slices.Contains(*dst, method)
			*dst = append(*dst, method)
		}
		return fits, "a list of basic, aksk, jwt, each once, such as basic,jwt"
	case *[]*url.URL:
		u, fits := endpoint(value)
		*dst = append(*dst, u)
		return fits, "tcp://host:port, unix:///path, http://host/path or https://host/path, without user, password and fragment"
	case *File:
		*dst = File{name, value}
	}
	return true, ""
}

// endpoint returns the URL s. It fits if one can connect to it and all of it is sent.
func endpoint(s string) (u *url.URL, fits bool) {
	u, _ = url.Parse(s)
	u = cmp.Or(u, new(url.URL))
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "1"), 10, 16)
	host := u.Hostname() != "" && err == nil && port > 0
	tcp := u.Scheme == "tcp" && host && u.Port() != "" && u.Path+u.RawQuery == ""
	unix := u.Scheme == "unix" && u.Path != "" && u.Host+u.RawQuery == ""
	web := (u.Scheme == "http" || u.Scheme == "https") && host
	return u, (tcp || unix || web) && u.User == nil && u.Fragment == ""
}

// PlaintextAuth reports whether credentials will cross a network in clear text.
func (c Config) PlaintextAuth() bool {
	host, _, _ := net.SplitHostPort(c.Addr)
	return len(c.Auth) > 0 && c.TLSCert.Path == "" && host != "localhost" && !net.ParseIP(host).IsLoopback()
}
