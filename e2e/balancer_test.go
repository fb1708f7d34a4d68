//go:build e2e

package e2e

import (
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	front, socket := listen(t)
	stats := filepath.Join(t.TempDir(), "stats")
	spawn(t, []*os.File{socket}, append([]string{
		"BIND=fd@3", "STATS=" + stats, "INTER=" + inter, "HEALTHD_1=" + addrs[0], "HEALTHD_2=" + addrs[1],
	}, env...), program(t, "haproxy"), "-db", "-f", "../deploy/haproxy.cfg")
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
				return field["status"] + " " + field["check_status"] + " " + field["check_code"]
			}
		}
		return "no such server"
	}
}

// What state says of a server, as "show stat" names it: layer 7 is HTTP.
const (
	up   = "UP L7OK 200"
	down = "DOWN L7STS 503"
)

// caddy is haproxy's like. It logs only the checks that fail, each before it
// acts on it: state is the last line but one about an address.
func caddy(t *testing.T, addrs [2]string) (front string, state func(addr string) string) {
	t.Helper()
	front = filepath.Join(t.TempDir(), "front")
	p := spawn(t, nil, []string{
		"BIND=" + front, "INTER=" + inter, "HEALTHD_1=" + addrs[0], "HEALTHD_2=" + addrs[1],
	}, program(t, "caddy"), "run", "--adapter", "caddyfile", "--config", "testdata/Caddyfile")
	return front, func(addr string) string {
		var lastButOne, last string
		for line := range strings.Lines(p.stderr.String()) {
			if strings.Contains(line, addr) {
				lastButOne, last = last, line
			}
		}
		return lastButOne
	}
}

func TestInstanceLeavesRotationByIts503(t *testing.T) {
	for _, row := range []struct {
		balancer string
		start    func(*testing.T, [2]string) (string, func(string) string)
		in, out  string // what state holds after checks that got a 200, and a 503
	}{
		{"HAProxy", haproxy, up, down},
		{"Caddy", caddy, "", `"status_code":503`},
	} {
		t.Run(row.balancer, func(t *testing.T) {
			env := []string{"HEALTHD_VERBOSE=true", "HEALTHD_DRAIN=1m"}
			leaving, staying := start(t, env), start(t, env)
			front, state := row.start(t, [2]string{leaving.addr, staying.addr})

			// Checks ask for /health, so another path counts the traffic.
			served := func(i *instance) int { return strings.Count(i.stderr.String(), "path=/traffic") }
			send := func() error {
				_, err := (&client{addr: front, fresh: true}).get("/traffic")
				return err
			}
			eventually(t, "both instances are checked and get traffic", func() bool {
				return strings.Contains(state(leaving.addr), row.in) && strings.Contains(state(staying.addr), row.in) &&
					send() == nil && served(leaving) > 0 && served(staying) > 0
			})
			if got := get(t, front); got.code != 200 || !got.own() {
				t.Errorf("through the balancer: %+v", got)
			}

			leaving.signal(t, syscall.SIGTERM)
			eventually(t, "the balancer's check gets the 503", func() bool {
				return strings.Contains(state(leaving.addr), row.out)
			})
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
			if got := get(t, leaving.addr); got.code != 503 || !got.own() {
				t.Errorf("its port, all the while: %+v", got)
			}
		})
	}
}
