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

// target takes one of what /health speaks for.
func (c *Config) target(_, s string) error {
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
