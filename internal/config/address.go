package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// address takes the host:port to listen on.
func (c *Config) address(_, s string) error {
	c.Addr = s
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

// PlaintextAuth reports whether credentials will cross a network in clear text.
func (c Config) PlaintextAuth() bool {
	host, _, _ := net.SplitHostPort(c.Addr)
	ip, err := netip.ParseAddr(host)
	return len(c.Auth) > 0 && c.TLSCert.Path == "" && host != "localhost" && (err != nil || !ip.IsLoopback())
}

// target takes one of what /health speaks for.
func (c *Config) target(_, s string) error {
	u, err := url.Parse(s)
	if err != nil {
		u = new(url.URL)
	}
	fits := u.User == nil && u.Fragment == "" && portFits(u)
	switch u.Scheme {
	case "tcp":
		fits = fits && u.Port() != "" && u.Hostname() != "" && u.Path+u.RawQuery == ""
	case "unix":
		fits = fits && u.Host == "" && u.Path != "" && u.RawQuery == ""
	case "http", "https":
		fits = fits && u.Hostname() != ""
	default:
		fits = false
	}
	if !fits {
		return errors.New("use tcp://host:port, unix:///path, http://host/path or https://host/path, without user, password and fragment")
	}
	c.Targets = append(c.Targets, u)
	return nil
}

// portFits reports whether the port of u, if it has one, can be connected to.
func portFits(u *url.URL) bool {
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" || err == nil && n > 0
}
