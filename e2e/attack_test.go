//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// attack is one that an instance withstands.
type attack struct {
	name  string
	run   func(t *testing.T, v victim) int
	least int // what it must count to be an attack
	of    string
}

// attackEnv is set in a process that attacks: to the address.
const attackEnv = "HEALTHD_E2E_ATTACK"

// withstand starts an instance for each attack, and a process that does nothing
// but attack: this test binary, which comes here again.
func withstand(t *testing.T, crt *certificate, attacks []attack) {
	t.Helper()
	for _, row := range attacks {
		t.Run(row.name, func(t *testing.T) {
			if addr := os.Getenv(attackEnv); addr != "" {
				fmt.Println("count", row.run(t, victim{addr, crt != nil}))
				return
			}
			i := besieged(t, crt, nil)
			i.withstands(t, "", func() {
				this := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
				n := number(t, `count (\d+)`, politely(t, []string{attackEnv + "=" + i.addr}, os.Args[0], "-test.run", this))
				if t.Logf("%d %s", n, row.of); n < row.least {
					t.Errorf("%d %s are no attack, want %d", n, row.of, row.least)
				}
			})
		})
	}
}

const (
	requestLine = "GET /health HTTP/1.1\r\nHost: x\r\n"
	settings    = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // a frame without any
)

// names is a header of n bytes in lines of five, each with a name of its own.
func names(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	var lines strings.Builder
	for k := 0; lines.Len() < n; k++ {
		fmt.Fprintf(&lines, "%c%c:\r\n", letters[k/len(letters)%len(letters)], letters[k%len(letters)])
	}
	return lines.String()
}

func TestProbesAreAnsweredUnderAttackWithin64MiB(t *testing.T) {
	withstand(t, nil, []attack{
		{"slow headers", func(t *testing.T, v victim) int {
			return slowly(t, v.url(), "-H", "-i", "1", "-x", "24")
		}, 3000, "connections"},
		{"slow bodies", func(t *testing.T, v victim) int {
			return slowly(t, v.url(), "-B", "-i", "1", "-s", "8192", "-x", "10")
		}, 3000, "connections"},
		{"ranges", func(t *testing.T, v victim) int {
			return slowly(t, v.url(), "-R", "-a", "10", "-b", "3000")
		}, 3000, "connections"},
		{"slow reads", func(t *testing.T, v victim) int {
			return slowly(t, v.url(), "-X", "-w", "1", "-y", "20", "-n", "1", "-z", "5", "-k", "3")
		}, 3000, "connections"},
		{"a flood of fresh connections", func(t *testing.T, v victim) int {
			return tool(t, `(\d+) requests in`, "wrk", "-t1", "-c100", "-d4s", "-H", "Connection: close", v.url())
		}, 1000, "requests"},
		{"connections that say nothing", func(t *testing.T, v victim) int {
			return crowd(t, v, 5000, "")
		}, 5000, "connections"},
		{"idle keep-alive connections", func(t *testing.T, v victim) int {
			return crowd(t, v, 5000, requestLine+"\r\n")
		}, 5000, "connections"},
		{"headers of 12 KiB that do not end", func(t *testing.T, v victim) int {
			return crowd(t, v, 600, requestLine+names(12<<10-200))
		}, 600, "connections"},
		{"1,500 headers of 7,000 bytes at once that do not end", func(t *testing.T, v victim) int {
			return bursts(t, v, burst{1500, requestLine + strings.Repeat("a:b\r\n", 1400)})
		}, 4500, "connections"},
		{"pipelined requests of clients that never read", func(t *testing.T, v victim) int {
			return flood(t, v, 128, true, "", again(requestLine+"\r\n", 100))
		}, 100, "times 100 requests"},
		{"600 bodies that never come, then 900 connections that say nothing", func(t *testing.T, v victim) int {
			return bursts(t, v, burst{600, "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"}, burst{900, ""})
		}, 4500, "connections"},
	})
}

func TestProbesAreAnsweredUnderHTTP2AttackWithin64MiB(t *testing.T) {
	withstand(t, nil, []attack{
		{"a flood of streams", func(t *testing.T, v victim) int {
			return tool(t, `(\d+) succeeded`, "h2load", "-t1", "-c50", "-m100", "-D4", v.url())
		}, 1000, "requests"},
		{"230 idle connections", func(t *testing.T, v victim) int {
			return crowd(t, v, 230, preface+settings)
		}, 230, "connections"},
		{"5,000 idle connections", func(t *testing.T, v victim) int {
			return crowd(t, v, 5000, preface+settings)
		}, 5000, "connections"},
		{"headers that do not end", func(t *testing.T, v victim) int {
			return crowd(t, v, 600, preface+settings+frame(frameHeaders, endStream, 1, fields+strings.Repeat("\x00\x01a\x01b", (16<<10)/5-10)))
		}, 600, "connections"},
		{"answers that are not read", func(t *testing.T, v victim) int {
			// Windows of nothing, and 8,000 bytes of header for each answer.
			const noWindow = "\x00\x04\x00\x00\x00\x00"
			opening := preface + frame(frameSettings, 0, 0, noWindow)
			for n := range uint32(64) {
				opening += frame(frameHeaders, endStream|endHeaders, 2*n+1, fields+"\x00\x01y\x7f\xc1\x3d"+strings.Repeat("a", 8000))
			}
			return crowd(t, v, 200, opening)
		}, 200, "connections"},
		{"bodies that never come, of clients that leave and come again", func(t *testing.T, v victim) int {
			opening := preface + settings
			for n := range uint32(16) {
				opening += frame(frameHeaders, endHeaders, 2*n+1, "\x83"+fields[1:]) // POST
			}
			return churn(t, v, 32, opening)
		}, 1000, "connections"},
		{"rapid resets", func(t *testing.T, v victim) int {
			return flood(t, v, 20, false, preface+settings, rapidReset)
		}, 100, "times 100 resets"},
		{"resets that it is made to send", func(t *testing.T, v victim) int {
			return flood(t, v, 50, true, preface+settings, madeReset)
		}, 100, "times 100 resets"},
		{"PINGs of clients that never read", func(t *testing.T, v victim) int {
			return flood(t, v, 100, true, preface+settings, again(frame(framePing, 0, 0, "12345678"), 1000))
		}, 100, "times 1000 PINGs"},
		{"SETTINGS of clients that never read", func(t *testing.T, v victim) int {
			return flood(t, v, 150, true, preface+settings, again(frame(frameSettings, 0, 0, "\x00\x04\x00\x00\xff\xff"), 1000))
		}, 100, "times 1000 SETTINGS"},
		{"CONTINUATIONs", func(t *testing.T, v victim) int {
			return flood(t, v, 20, false, preface+settings+frame(frameHeaders, endStream, 1, fields),
				again(frame(frameContinuation, 0, 1, strings.Repeat("\x00\x01a\x01b", 200)), 20))
		}, 100, "times 20 frames"},
		{"empty CONTINUATIONs", func(t *testing.T, v victim) int {
			return flood(t, v, 4, false, preface+settings+frame(frameHeaders, endStream, 1, fields),
				again(frame(frameContinuation, 0, 1, ""), 1000))
		}, 100, "times 1000 frames"},
	})
}

func TestProbesAreAnsweredOverTLSUnderAttackWithin64MiB(t *testing.T) {
	crt := newCertificate(t, ecdsaKey(t))
	withstand(t, &crt, []attack{
		{"slow headers", func(t *testing.T, v victim) int {
			return slowly(t, v.url(), "-H", "-i", "1", "-x", "24")
		}, 1000, "connections"},
		{"a flood of fresh connections", func(t *testing.T, v victim) int {
			return tool(t, `(\d+) requests in`, "wrk", "-t1", "-c100", "-d4s", "-H", "Connection: close", v.url())
		}, 1000, "handshakes"},
		{"400 clients that shake hands again and again", func(t *testing.T, v victim) int {
			return handshakes(t, v, 400)
		}, 1000, "handshakes begun"},
		{"a flood of streams", func(t *testing.T, v victim) int {
			return tool(t, `(\d+) succeeded`, "h2load", "-t1", "-c50", "-m100", "-D4", v.url())
		}, 1000, "requests"},
		{"160 idle HTTP/2 connections", func(t *testing.T, v victim) int {
			return crowd(t, v, 160, preface+settings)
		}, 160, "connections"},
		{"rapid resets", func(t *testing.T, v victim) int {
			return flood(t, v, 20, false, preface+settings, rapidReset)
		}, 100, "times 100 resets"},
		{"PINGs of clients that never read", func(t *testing.T, v victim) int {
			return flood(t, v, 130, true, preface+settings, again(frame(framePing, 0, 0, "12345678"), 960)) // a record
		}, 100, "times 960 PINGs"},
		{"SETTINGS of clients that never read", func(t *testing.T, v victim) int {
			return flood(t, v, 130, true, preface+settings, again(frame(frameSettings, 0, 0, ""), 200))
		}, 100, "times 200 SETTINGS"},
		{"400 handshakes at once that are not finished", func(t *testing.T, v victim) int {
			return bursts(t, v, burst{400, hello(t)})
		}, 1200, "handshakes"},
	})
}

// A signature of an RSA key takes the server ten times as long.
func TestProbesAreAnsweredUnderAttackWithAnRSAKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	crt := newCertificate(t, key)
	withstand(t, &crt, []attack{
		{"400 handshakes at once that are not finished", func(t *testing.T, v victim) int {
			return bursts(t, v, burst{400, hello(t)})
		}, 1200, "handshakes"},
	})
}

func TestAFloodOfWrongTokensFloodsNoLog(t *testing.T) {
	key := newKey()
	i := besieged(t, nil, []string{"HEALTHD_JWT_SECRET=" + key}, "-auth", "jwt")
	wrong := mint(newKey(), map[string]any{"exp": time.Now().Add(time.Hour).Unix()})
	script := written(t, `wrk.headers["Authorization"] = "Bearer `+wrong+`"`)
	requests := 0
	begun := time.Now()
	i.withstands(t, authorization("jwt", key), func() {
		requests = tool(t, `(\d+) requests in`, "wrk", "-t1", "-c50", "-d4s", "-s", script, "http://"+i.addr+"/health")
	})
	took := time.Since(begun)
	written, left := 0, 0
	eventually(t, "every refusal is in the log or counted in it", func() bool {
		log := i.stderr.String()
		written, left = strings.Count(log, "msg=refused"), 0
		for _, line := range regexp.MustCompile(`left out" count=(\d+)`).FindAllStringSubmatch(log, -1) {
			n, _ := strconv.Atoi(line[1])
			left += n
		}
		return written+left >= requests
	})
	t.Logf("%d requests with a wrong token: %d lines, %d left out, in %v", requests, written, left, took)
	if most := 10 * (int(took.Seconds()) + 2); written > most || requests < 1000 {
		t.Errorf("%d lines for %d requests in %v, want %d at the most", written, requests, took, most)
	}
}

// The limit of a process that is small from its start leaves room for fewer
// connections, and so is never met.
func TestWithFewDescriptorsItKeepsFewerConnections(t *testing.T) {
	manyFiles(t)
	i := &fortress{instance: startBy(t, []string{program(t, "prlimit"), "--nofile=64:64"}, nil)}
	i.withstands(t, "", func() { t.Logf("%d connections", crowd(t, victim{i.addr, false}, 300, requestLine+"\r\n")) })
	if log := i.stderr.String(); strings.Count(log, "\n") != 1 {
		t.Errorf("the log tells more than that it listens:\n%s", log)
	}
}
