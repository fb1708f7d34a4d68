//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/csv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Attackers come from elsewhere, and here they share two processors with what
// they attack: each is a process that gives way to the server and to the probes,
// so that a probe that comes late is late because of the server.

// politely runs a program so to its end, and returns what it prints.
func politely(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	return output(t, env, "nice", append([]string{"-n", "10", name}, args...)...)
}

// tool runs an attacking program, and returns the number that the pattern finds
// in its output: proof that it did attack.
func tool(t *testing.T, pattern, name string, args ...string) int {
	t.Helper()
	return number(t, pattern, politely(t, nil, program(t, name), args...))
}

func number(t *testing.T, pattern, out string) int {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no %q in\n%s", pattern, out)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// slowly runs slowhttptest in one of its modes with 4,000 connections, and
// returns how many of them it had opened when it last looked, up to a second
// before its end.
func slowly(t *testing.T, url string, mode ...string) int {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	politely(t, nil, program(t, "slowhttptest"), append(mode, "-c", "4000", "-r", "2000", "-l", "6", "-p", "1",
		"-u", url, "-g", "-o", report)...)
	f, err := os.Open(report + ".csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll() // seconds, closed, pending, connected, ...
	if err != nil || len(rows) < 2 {
		t.Fatalf("slowhttptest reports %q, %v", rows, err)
	}
	opened := 0
	for _, column := range []int{1, 3} {
		n, err := strconv.Atoi(rows[len(rows)-1][column])
		if err != nil {
			t.Fatal(err)
		}
		opened += n
	}
	return opened
}

// victim is what attackers know of an instance.
type victim struct {
	addr string
	tls  bool
}

// url is that of /health.
func (v victim) url() string {
	if v.tls {
		return "https://" + v.addr + "/health"
	}
	return "http://" + v.addr + "/health"
}

// dial connects as one who speaks HTTP/2. The connection is of use until the
// deadline of ctx.
func (v victim) dial(ctx context.Context) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", v.addr)
	if err != nil {
		return nil, err
	}
	until, _ := ctx.Deadline()
	c.SetDeadline(until)
	if !v.tls {
		return c, nil
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

// crowd keeps n connections for siegeTime, each of which begins with opening
// and then only listens. One that is closed comes again after a second or so.
// It returns how many there were.
func crowd(t *testing.T, v victim, n int, opening string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siegeTime)
	defer cancel()
	var (
		members sync.WaitGroup
		opened  atomic.Int64
		turn    = make(chan struct{}, 50) // not all at the door at once
	)
	visit := func() {
		turn <- struct{}{}
		c, err := v.dial(ctx)
		<-turn
		if err != nil {
			return
		}
		defer c.Close()
		opened.Add(1)
		io.WriteString(c, opening)
		io.Copy(io.Discard, c)
	}
	for range n {
		members.Go(func() {
			for ctx.Err() == nil {
				visit()
				select {
				case <-ctx.Done():
				case <-time.After(time.Second/2 + rand.N(time.Second)):
				}
			}
		})
	}
	members.Wait()
	return int(opened.Load())
}

// burst is a number of connections that are opened at the same time and begin
// in the same way.
type burst struct {
	n       int
	opening string
}

// open opens its connections and returns them all.
func (b burst) open(t *testing.T, addr string) (conns []net.Conn) {
	t.Helper()
	var (
		mu      sync.Mutex
		dialers sync.WaitGroup
		left    atomic.Int64
	)
	left.Store(int64(b.n))
	for range 32 {
		dialers.Go(func() {
			for left.Add(-1) >= 0 {
				c, err := net.DialTimeout("tcp", addr, patience)
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(c, b.opening)
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	dialers.Wait()
	return conns
}

// bursts opens all the bursts, one right after the other, and closes them after
// a second, as often as siegeTime allows. It returns how many connections it
// opened.
func bursts(t *testing.T, v victim, all ...burst) (opened int) {
	t.Helper()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	size := 0
	for _, b := range all {
		size += b.n
	}
	for begun := time.Now(); time.Since(begun) < siegeTime || opened < 3*size && time.Since(begun) < patience; {
		var conns []net.Conn
		for _, b := range all {
			conns = append(conns, b.open(t, v.addr)...)
		}
		opened += len(conns)
		<-second.C
		for _, c := range conns {
			c.Close()
		}
	}
	return opened
}

// churn has n clients come, begin with opening, wait for the first bytes of an
// answer, leave, and come again. It returns how often they came.
func churn(t *testing.T, v victim, n int, opening string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siegeTime)
	defer cancel()
	var (
		visitors sync.WaitGroup
		visits   atomic.Int64
	)
	for range n {
		visitors.Go(func() {
			for ctx.Err() == nil {
				c, err := v.dial(ctx)
				if err != nil {
					continue
				}
				visits.Add(1)
				io.WriteString(c, opening)
				c.Read(make([]byte, 1))
				c.Close()
			}
		})
	}
	visitors.Wait()
	return int(visits.Load())
}

// hello is a TLS client's first message, for those who send no other: it costs
// them nothing, and the server a key exchange and a signature.
func hello(t *testing.T) string {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go tls.Client(near, &tls.Config{ServerName: "healthd", NextProtos: []string{"h2", "http/1.1"}}).Handshake()
	record := make([]byte, 16<<10)
	n, err := far.Read(record)
	if err != nil {
		t.Fatal(err)
	}
	return string(record[:n])
}

// handshakes has n clients shake hands over TLS, each again and again. It
// returns how often they began to.
func handshakes(t *testing.T, v victim, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siegeTime)
	defer cancel()
	var (
		clients sync.WaitGroup
		begun   atomic.Int64
	)
	for range n {
		clients.Go(func() {
			for ctx.Err() == nil {
				begun.Add(1)
				if c, err := v.dial(ctx); err == nil {
					c.Close()
				}
			}
		})
	}
	clients.Wait()
	return int(begun.Load())
}
