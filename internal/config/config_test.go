package config

import (
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func parse(args string, env map[string]string) (Config, error) {
	return Parse(strings.Fields(args), func(k string) string { return env[k] })
}

func urls(list ...string) (parsed []*url.URL) {
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		parsed = append(parsed, u)
	}
	return parsed
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args string
		env  map[string]string
		want func(c *Config)
	}{
		{"defaults", "", nil, func(c *Config) {}},
		{"flags", "-addr 127.0.0.1:1 -drain 2m -timeout=20ms -verbose", nil, func(c *Config) {
			c.Addr, c.Drain, c.Timeout, c.Verbose = "127.0.0.1:1", 2*time.Minute, 20*time.Millisecond, true
		}},
		{"variables", "", map[string]string{
			"HEALTHD_ADDR": "[::1]:1", "HEALTHD_DRAIN": "2m", "HEALTHD_TIMEOUT": "20ms", "HEALTHD_VERBOSE": "true",
		}, func(c *Config) {
			c.Addr, c.Drain, c.Timeout, c.Verbose = "[::1]:1", 2*time.Minute, 20*time.Millisecond, true
		}},
		{"a flag wins over its variable, right or wrong", "-addr :1 -drain 0 -verbose=false", map[string]string{
			"HEALTHD_ADDR": "nonsense", "HEALTHD_DRAIN": "-1s", "HEALTHD_VERBOSE": "1",
		}, func(c *Config) { c.Addr, c.Drain = ":1", 0 }},
		{"an empty variable is unset", "", map[string]string{"HEALTHD_ADDR": "", "HEALTHD_DRAIN": "", "PORT": ""}, func(c *Config) {}},
		{"PORT is the port", "", map[string]string{"PORT": "5000"}, func(c *Config) { c.Addr = ":5000" }},
		{"HEALTHD_ADDR wins over PORT", "", map[string]string{"PORT": "x", "HEALTHD_ADDR": ":1"}, func(c *Config) { c.Addr = ":1" }},
		{"a host name", "-addr localhost:0", nil, func(c *Config) { c.Addr = "localhost:0" }},
		{"targets", "-target tcp://[::1]:1 -target unix:///a/b", map[string]string{"HEALTHD_TARGETS": "nonsense", "HEALTHD_INTERVAL": "1m"}, func(c *Config) {
			c.Targets, c.Interval = urls("tcp://[::1]:1", "unix:///a/b"), time.Minute
		}},
		{"a list of targets", "", map[string]string{"HEALTHD_TARGETS": "http://a/b?c=d , https://a:1"}, func(c *Config) {
			c.Targets = urls("http://a/b?c=d", "https://a:1")
		}},
		{"the name of a file's setting, as it was given", "-tls-cert c", map[string]string{"HEALTHD_TLS_KEY": "k"}, func(c *Config) {
			c.TLSCert, c.TLSKey = File{"-tls-cert", "c"}, File{"HEALTHD_TLS_KEY", "k"}
		}},
		{"probe", "probe -addr :1", nil, func(c *Config) { c.Probe, c.Addr = true, ":1" }},
		{"probe of a URL, without what describes this instance", "probe -addr :1 -tls-cert c -tls-key k https://a.example/x?y=z", nil, func(c *Config) {
			c.Probe, c.URL, c.Addr = true, "https://a.example/x?y=z", ""
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := Config{Addr: ":8080", Drain: 5 * time.Second, Interval: 5 * time.Second, Timeout: time.Second, Secrets: map[string]Secret{}}
			tt.want(&want)
			got, err := parse(tt.args, tt.env)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestMistakesAreNamedInOneLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		env  map[string]string
		want string // in the error
	}{
		{"-nope", nil, "unknown flag, number 1 of the arguments"},
		{"-drain 1s -user:s3cret", nil, "unknown flag, number 3 of the arguments"},
		{"probe -drain 1s -user:s3cret", nil, "unknown flag, number 4 of the arguments"},
		{"-=s3cret", nil, "unknown flag"},
		{"-addr", nil, "flag needs an argument: -addr"},
		{"-version=2", nil, "-version: use true or false"},
		{"serve", nil, `unexpected argument "serve"`},
		{"serve:s3cret", nil, `unexpected argument "(not shown)"`},
		{"s3cret0123456789", nil, `unexpected argument "(not shown)"`},
		{"-verbose probe", nil, `unexpected argument "probe"`},
		{"-addr 8080", nil, "-addr: use host:port"},
		{"-addr localhost", nil, "-addr: use host:port"},
		{"-addr :99999", nil, "-addr: use host:port"},
		{"-addr :-1", nil, "-addr: use host:port"},
		{"-addr :http", nil, "-addr: use host:port"},
		{"-addr http://localhost:8080", nil, "-addr: use host:port"},
		{"-addr 256.0.0.1:80", nil, "-addr: use host:port"},
		{"-addr=", nil, "-addr: use host:port"},
		{"-addr localhost:", nil, "-addr: use host:port"},
		{"", map[string]string{"HEALTHD_ADDR": "x"}, "HEALTHD_ADDR: use host:port"},
		{"", map[string]string{"PORT": "http"}, "PORT: use host:port"},
		{"-drain 5", nil, "-drain: use a number and a unit"},
		{"-drain -1s", nil, "-drain: use a number and a unit"},
		{"-timeout 0", nil, "-timeout: use a number and a unit"},
		{"", map[string]string{"HEALTHD_TIMEOUT": "-1s"}, "HEALTHD_TIMEOUT: use a number and a unit"},
		{"-verbose=yes", nil, "-verbose: use true or false"},
		{"", map[string]string{"HEALTHD_VERBOSE": "on"}, "HEALTHD_VERBOSE: use true or false"},
		{"-drain x -timeout y", nil, "-drain: use a number and a unit, such as 5s or 500ms: more than 0, or for -drain also 0; -timeout: use"},
		{"", map[string]string{"HEALTHD_DRAIN": "a", "PORT": "b"}, "PORT"},
		{"", map[string]string{"HEALTHD_DRAIN": "a", "PORT": "b"}, "HEALTHD_DRAIN"},
		{"-interval 0", nil, "-interval: use a number and a unit"},
		{"-target tcp://a", nil, "-target: use tcp://host:port"},
		{"-target tcp://:1", nil, "use tcp://host:port"},
		{"-target tcp://a:x", nil, "-target: "},
		{"-target tcp://a:99999", nil, "use tcp://host:port"},
		{"-target tcp://a:0", nil, "use tcp://host:port"},
		{"-target http://a:0", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"probe http://a:99999/", nil, "must begin with http://"},
		{"-target tcp://a:1/b", nil, "use tcp://host:port"},
		{"-target unix://a/b", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target unix://", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target http://", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target http://a:99999", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target http://a -target ftp://a", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target a:1", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target=", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"-target http://a/#b", nil, "-target: use tcp://host:port, unix:///path, http://host/path"},
		{"", map[string]string{"HEALTHD_TARGETS": "http://a,"}, "HEALTHD_TARGETS: use tcp://host:port"},
		{"probe localhost:8080", nil, "must begin with http://"},
		{"probe http://", nil, "must begin with http://"},
		{"probe http://a/#b", nil, "no user, password or fragment"},
		{"probe ftp://a/", nil, "must begin with http://"},
		{"probe http://a/ http://b/", nil, "one URL"},
		{"probe http://a/ -timeout 1s", nil, "then one URL"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, err := parse(tt.args, tt.env)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("more than one line, or a secret: %q", err)
			}
		})
	}
}

func TestAnErrorDoesNotRepeatAMisplacedSecret(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"user:s3cret", "-basic=user:s3cret", "-user:s3cret", "--s3cret", "-drain 1s -s3cret", "probe -s3cret", "probe http://user:s3cret@a/", "-target http://user:s3cret@a/", "-target tcp://:s3cret@a:1", "-target http://user:s3cret%zz@a/", "probe s3cret", "probe http://a/ s3cret:", "-auth user:s3cret", "-addr user:s3cret", "-drain s3cret", "-verbose=s3cret"} {
		if _, err := parse(args, nil); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestHelpListsEverySettingAndNoOther(t *testing.T) {
	t.Parallel()
	if c, err := parse("-h", nil); err != nil || !c.Help {
		t.Fatalf("-h gave %v", err)
	}
	asked := map[string]bool{}
	Parse(nil, func(k string) string { asked[k] = true; return "" })
	delete(asked, "") // of -version, which has no variable
	told := map[string]bool{}
	for _, name := range regexp.MustCompile(`HEALTHD_[A-Z_]+|\bPORT\b`).FindAllString(Help, -1) {
		told[name] = true
	}
	if !maps.Equal(asked, told) {
		t.Errorf("help tells of %v, Parse asks for %v", told, asked)
	}
	for line := range strings.Lines(Help) {
		if len(line) > 81 {
			t.Errorf("wider than a terminal: %q", line)
		}
	}
}

func TestVersionNeedsNoOtherSetting(t *testing.T) {
	t.Parallel()
	if c, err := parse("-version", map[string]string{"HEALTHD_DRAIN": "nonsense"}); err != nil || !c.Version {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err := parse("-version=false", nil); err != nil || c.Version {
		t.Errorf("with -version=false: %+v, %v", c, err)
	}
}
