//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// locked is a healthd behind TLS and two locks, with what opens them in files.
type locked struct {
	*instance
	host, port           string
	crt, access          string // the certificate's file, and that of the keys
	user, password       string
	accessKey, secretKey string
}

func startLocked(t *testing.T) (l locked) {
	t.Helper()
	crt := newCertificate(t, ecdsaKey(t))
	l.user, l.password, l.accessKey, l.secretKey = newKey(), newKey(), newKey(), newKey()
	keep(authorization("basic", l.user+":"+l.password))
	l.crt, l.access = written(t, crt.cert), written(t, l.accessKey+":"+l.secretKey+"\n")
	l.instance = start(t, append(crt.install(t), "HEALTHD_AUTH=basic,aksk",
		"HEALTHD_BASIC="+l.user+":"+l.password, "HEALTHD_AKSK_FILE="+l.access), "-drain", "1m")
	l.host, l.port, _ = strings.Cut(l.addr, ":")
	return l
}

func TestCheckHTTPIsCriticalFromTheDrainOn(t *testing.T) {
	open, behind := start(t, nil, "-drain", "1m"), startLocked(t)
	_, port, _ := strings.Cut(open.addr, ":")
	options := written(t, fmt.Sprintf("[basic]\nauthorization=%s:%s\n[aksk]\nheader=X-Access-Key: %s\nheader=X-Secret-Key: %s\n",
		behind.user, behind.password, behind.accessKey, behind.secretKey))
	overTLS := []string{"-S", "-I", behind.host, "-p", behind.port, "-u", "/health", "-s", `"status":"healthy"`}
	const ok, critical = 0, 2
	rows := []struct {
		name    string
		env     []string
		plugin  string
		args    []string
		healthy int
	}{
		{"open", nil, "check_http", []string{"-I", host, "-p", port, "-u", "/health", "-s", `"status":"healthy"`}, ok},
		{"open, with a Host, which makes it HTTP/1.1", nil, "check_http",
			[]string{"-H", host, "-p", port, "-u", "/health", "-s", `"status":"healthy"`}, ok},
		{"HTTP/1.1 wanted, of a check that speaks HTTP/1.0", nil, "check_http",
			[]string{"-I", host, "-p", port, "-u", "/health", "-e", "HTTP/1.1 200"}, critical},
		{"locked, no key", nil, "check_http", overTLS, critical},
		{"locked, Basic from a file", nil, "check_http", append([]string{"--extra-opts=basic@" + options}, overTLS...), ok},
		{"locked, keys from a file", nil, "check_http", append([]string{"--extra-opts=aksk@" + options}, overTLS...), ok},
		{"locked, healthd's own probe, whose 1 would be a warning",
			[]string{"HEALTHD_AUTH=aksk", "HEALTHD_AKSK_FILE=" + behind.access, "SSL_CERT_FILE=" + behind.crt},
			"negate", []string{"-w", "CRITICAL", binary(), "probe", "https://" + behind.addr + "/health"}, ok},
	}
	check := func(when, name string, env []string, plugin string, args []string, want int) {
		p := spawn(t, nil, env, program(t, plugin), args...)
		if code := p.wait(t, patience); code != want {
			t.Errorf("%s, %s: exit code %d, want %d: %s%s", name, when, code, want, p.stdout.String(), p.stderr.String())
		}
	}
	for _, row := range rows {
		check("healthy", row.name, row.env, row.plugin, row.args, row.healthy)
	}
	for _, i := range []*instance{open, behind.instance} {
		i.signal(t, syscall.SIGTERM)
		eventually(t, "it says that it drains", func() bool { return strings.Contains(i.stderr.String(), "msg=draining") })
	}
	for _, row := range rows {
		check("draining", row.name, row.env, row.plugin, row.args, critical)
	}
}

func TestMonitSeesThroughEveryLockAndTheDrain(t *testing.T) {
	open, behind := start(t, nil, "-drain", "1m"), startLocked(t)
	_, port, _ := strings.Cut(open.addr, ":")
	dir := t.TempDir()

	// The file that users copy, with all that it has in comments.
	live, others, found := strings.Cut(deployed(t, "../deploy/monit.conf"), "# With a lock")
	if !found {
		t.Fatal("no checks in comments")
	}
	others = regexp.MustCompile(`(?m)^#(  |check)`).ReplaceAllString("#"+others, "$1")
	config := edited(t, live, "127.0.0.1", host, "port 8080", "port "+port) + edited(t, others,
		"/etc/healthd/aksk", behind.access,
		"/etc/healthd/tls.crt", behind.crt,
		"/usr/local/bin/healthd", binary(),
		"healthd.example.com", behind.host,
		"8443", behind.port,
		"ACCESS_KEY", behind.accessKey,
		"SECRET_KEY", behind.secretKey,
		"alice", behind.user,
		"PASSWORD", behind.password)
	for _, name := range []string{"id", "state", "pid"} {
		config = fmt.Sprintf("set %sfile %s\n", name, filepath.Join(dir, name)) + config
	}
	path := filepath.Join(dir, "monitrc")
	if err := os.WriteFile(path, []byte("set daemon 1\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, nil, "monit", "-t", "-c", path)
	monit := spawn(t, nil, nil, program(t, "monit"), "-I", "-v", "-c", path)
	said := func(lines ...string) func() bool {
		return func() bool {
			out := monit.stdout.String() + monit.stderr.String()
			for _, line := range lines {
				if !strings.Contains(out, line) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "all four succeed", said(
		"'healthd' succeeded testing protocol [HTTP]",
		"'healthd-probe' status succeeded (0) -- "+healthy,
		"'healthd-keys' succeeded testing protocol [HTTP]",
		"'healthd-basic' succeeded testing protocol [HTTP]"))
	open.signal(t, syscall.SIGTERM)
	behind.signal(t, syscall.SIGTERM)
	const drains = " -- HTTP error: Server returned status 503"
	eventually(t, "all four fail", said(
		"'healthd' failed protocol test [HTTP] at ["+host+"]:"+port+"/health [TCP/IP]"+drains,
		"'healthd-probe' status failed (1) -- "+draining,
		"'healthd-keys' failed protocol test [HTTP] at ["+behind.host+"]:"+behind.port+"/health [TCP/IP TLS]"+drains,
		"'healthd-basic' failed protocol test [HTTP] at ["+behind.host+"]:"+behind.port+"/health [TCP/IP TLS]"+drains))
}
