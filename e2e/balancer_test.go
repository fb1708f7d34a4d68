//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// inter is the time between two checks by a balancer. The deployed HAProxy
// takes an instance out after two bad ones.
const inter = "100ms"

// haproxy starts HAProxy with the file that users copy. front is where its
// clients connect. state tells how it sees the server at an address: the
// status and how the last check went.
func haproxy(t *testing.T, addrs [2]string) (front string, state func(addr string) string) {
	t.Helper()
	return lockedHAProxy(t, addrs, nil)
}

// lockedHAProxy is haproxy with more variables in env: those for a lock and TLS.
func lockedHAProxy(t *testing.T, addrs [2]string, env []string) (front string, state func(addr string) string) {
	t.Helper()
	return configuredHAProxy(t, "../deploy/haproxy.cfg", addrs, env)
}

func configuredHAProxy(t *testing.T, config string, addrs [2]string, env []string) (front string, state func(addr string) string) {
	t.Helper()
	front, socket := listen(t)
	stats := filepath.Join(t.TempDir(), "stats")
	spawn(t, []*os.File{socket}, append([]string{
		"BIND=fd@3", "STATS=" + stats, "INTER=" + inter, "HEALTHD_1=" + addrs[0], "HEALTHD_2=" + addrs[1],
	}, env...), program(t, "haproxy"), "-db", "-f", config)
	return front, func(addr string) string {
		conn, err := net.Dial("unix", stats)
		if err != nil {
			return "not started"
		}
		defer conn.Close()
		fmt.Fprintln(conn, "show stat")
		rows, err := csv.NewReader(conn).ReadAll()
		if err != nil || len(rows) == 0 {
			return "no statistics"
		}
		for _, row := range rows[1:] {
			field := make(map[string]string)
			for i, name := range rows[0] {
				field[name] = row[i]
			}
			if field["addr"] == addr {
				// A star leads the status of the last check while the next one runs.
				return field["status"] + " " + strings.TrimPrefix(field["check_status"], "* ") + " " + field["check_code"]
			}
		}
		return "no such server"
	}
}

// What state says of a server, as "show stat" names it: layer 7 is HTTP. The
// other balancers' say the same of their servers, or something else.
const (
	up   = "UP L7OK 200"
	down = "DOWN L7STS 503"
)

// caddy is haproxy's like. With a CA, the file of a certificate, it speaks TLS
// to its servers, and HTTP/2.
func caddy(t *testing.T, addrs [2]string, ca string) (front string, state func(addr string) string) {
	t.Helper()
	front = filepath.Join(t.TempDir(), "front")
	env := []string{"BIND=" + front, "INTER=" + inter, "HEALTHD_1=" + addrs[0], "HEALTHD_2=" + addrs[1]}
	if ca != "" {
		env = append(env, "TRANSPORT=tls_trusted_ca_certs "+ca)
	}
	p := spawn(t, nil, env, program(t, "caddy"), "run", "--adapter", "caddyfile", "--config", "testdata/Caddyfile")
	return front, func(addr string) string {
		// It logs the checks that fail, each before it acts on it, and the first
		// that is good again.
		lastButOne, last := "", "host is up"
		for line := range strings.Lines(p.stderr.String()) {
			if strings.Contains(line, addr) {
				lastButOne, last = last, line
			}
		}
		switch {
		case strings.Contains(last, "host is up"):
			return up
		case strings.Contains(lastButOne, `"status_code":503`):
			return down
		}
		return last
	}
}

// varnish is haproxy's like. Its files name no variable, so that they are made
// of a template.
func varnish(t *testing.T, addrs [2]string, _ string) (front string, state func(addr string) string) {
	t.Helper()
	template, err := os.ReadFile("testdata/varnish.vcl")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	vcl := written(t, os.Expand(string(template), func(variable string) string {
		value := map[string]string{"INTER": inter}
		for n, addr := range addrs {
			server := fmt.Sprintf("HEALTHD_%d", n+1)
			names[addr] = fmt.Sprintf("healthd%d", n+1)
			value[server+"_HOST"], value[server+"_PORT"], _ = strings.Cut(addr, ":")
		}
		return value[variable]
	}))
	dir := t.TempDir()
	front = filepath.Join(dir, "front")
	spawn(t, nil, nil, program(t, "varnishd"), "-F", "-n", dir, "-f", vcl, "-a", front, "-s", "malloc,16m", "-j", "none", "-t", "0")
	log := spawn(t, nil, nil, program(t, "varnishlog"), "-n", dir, "-t", "off", "-g", "raw", "-i", "Backend_health")
	return front, func(addr string) string {
		last := "not checked"
		for line := range strings.Lines(log.stdout.String()) {
			if strings.Contains(line, names[addr]) {
				last = line
			}
		}
		switch {
		case strings.Contains(last, " healthy "):
			return up
		case strings.Contains(last, " sick ") && strings.Contains(last, " 503 "):
			return down
		}
		return last
	}
}

// balancers are those in front of two healthd. Their checks go the way of their
// traffic, over TLS or not.
var balancers = []struct {
	name  string
	start func(t *testing.T, addrs [2]string, ca string) (front string, state func(addr string) string)
	tls   bool
}{
	{"HAProxy", func(t *testing.T, addrs [2]string, _ string) (string, func(string) string) { return haproxy(t, addrs) }, false},
	{"Caddy", caddy, false},
	{"Caddy over TLS", caddy, true},
	{"Varnish", varnish, false},
}

func TestInstanceLeavesRotationByIts503(t *testing.T) {
	for _, row := range balancers {
		t.Run(row.name, func(t *testing.T) {
			env, ca, trust := []string{"HEALTHD_VERBOSE=true", "HEALTHD_DRAIN=1m"}, "", (*tls.Config)(nil)
			if row.tls {
				crt := newCertificate(t, ecdsaKey(t))
				env, ca, trust = append(env, crt.install(t)...), written(t, crt.cert), crt.trust()
			}
			leaving, staying := start(t, env), start(t, env)
			front, state := row.start(t, [2]string{leaving.addr, staying.addr}, ca)

			// Checks ask for /health, so another path counts the traffic.
			served := func(i *instance) int { return strings.Count(i.stderr.String(), "path=/traffic") }
			send := func() error {
				_, err := (&client{addr: front, fresh: true}).get("/traffic")
				return err
			}
			eventually(t, "both instances are checked and get traffic", func() bool {
				return state(leaving.addr) == up && state(staying.addr) == up &&
					send() == nil && served(leaving) > 0 && served(staying) > 0
			})
			if got := get(t, front); got.code != 200 || !got.own() {
				t.Errorf("through the balancer: %+v", got)
			}

			leaving.signal(t, syscall.SIGTERM)
			eventually(t, "the balancer's check gets the 503", func() bool { return state(leaving.addr) == down })
			before := [2]int{served(leaving), served(staying)}
			const requests = 50
			for range requests {
				if err := send(); err != nil {
					t.Fatal(err)
				}
			}
			if got := get(t, front); got.code != 200 || !got.own() {
				t.Errorf("through the balancer: %+v", got)
			}
			eventually(t, "the traffic is in the log", func() bool {
				return served(leaving)+served(staying) == before[0]+before[1]+requests
			})
			if got := served(leaving) - before[0]; got != 0 {
				t.Errorf("the instance that left got %d of %d requests", got, requests)
			}
			got, err := (&client{addr: leaving.addr, tls: trust, fresh: true}).get("/health")
			if err != nil || got.code != 503 || !got.own() {
				t.Errorf("its port, all the while: %+v, %v", got, err)
			}
		})
	}
}

// HAProxy takes a 3xx for healthy as well, if it is told no better.
func TestACheckOfAnotherPathIsNeverUp(t *testing.T) {
	deployed, err := os.ReadFile("../deploy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	careless := regexp.MustCompile(`(?m)^ *http-check .*$`).ReplaceAll(deployed, nil)
	config := written(t, strings.Replace(string(careless), "option httpchk\n", "option httpchk GET //health\n", 1))
	serving, leaving := start(t, nil), start(t, nil, "-drain", "1m")
	leaving.signal(t, syscall.SIGTERM)
	eventually(t, "it drains", func() bool { return get(t, leaving.addr).body == draining })
	_, state := configuredHAProxy(t, config, [2]string{serving.addr, leaving.addr}, nil)
	for what, i := range map[string]*instance{"serving": serving, "draining": leaving} {
		eventually(t, what+" is down by its 404", func() bool { return state(i.addr) == "DOWN L7STS 404" })
	}
}
