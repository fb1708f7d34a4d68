//go:build e2e

package e2e

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	probePace  = 100 * time.Millisecond
	probeLimit = time.Second
	// memoryLimit is what the process may ever have held, and memoryAfter what
	// it holds some seconds after an attack, in KiB.
	memoryLimit = 64 << 10
	memoryAfter = 48 << 10
	// siegeTime is how long an attack lasts that has no end of its own.
	siegeTime = 6 * time.Second
)

// memory returns a field of /proc/PID/status in KiB: VmRSS is what the process
// holds now, VmHWM the most that it ever held.
func (i *instance) memory(t *testing.T, field string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.Process.Pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	kib, err := strconv.Atoi(regexp.MustCompile(field + `:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
	if err != nil {
		t.Error(err)
	}
	return kib
}

func (i *instance) descriptors(t *testing.T) int {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", i.Process.Pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		t.Error(err)
	}
	return len(names)
}

// withstands fails unless, for as long as attack runs, every probe on a
// connection of its own is answered in time, within the limit of memory; and
// unless memory and descriptors come back afterwards.
func (i *instance) withstands(t *testing.T, header string, attack func()) {
	t.Helper()
	ask := func() (took time.Duration, err error) {
		begun := time.Now()
		a, err := (&client{addr: i.addr, tls: i.trust, fresh: true, header: "Connection: close\r\n" + header}).get("/health")
		if took = time.Since(begun); err == nil && (a.code != 200 || !a.own()) {
			err = fmt.Errorf("answer %+v", a)
		}
		return took, err
	}
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}
	before := i.descriptors(t)

	var (
		over     = make(chan struct{})
		probes   sync.WaitGroup
		mu       sync.Mutex
		asked    int
		worst    time.Duration
		failed   []string
		rss, fds int
	)
	probes.Go(func() {
		tick := time.NewTicker(probePace)
		defer tick.Stop()
		for begun := time.Now(); ; {
			probes.Go(func() {
				at := time.Since(begun)
				took, err := ask()
				mu.Lock()
				defer mu.Unlock()
				asked++
				worst = max(worst, took)
				if err != nil || took > probeLimit {
					failed = append(failed, fmt.Sprintf("at %v: %v after %v", at.Round(time.Millisecond), err, took))
				}
			})
			rss, fds = max(rss, i.memory(t, "VmRSS")), max(fds, i.descriptors(t))
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	attack()
	close(over)
	probes.Wait()

	most := i.memory(t, "VmHWM")
	t.Logf("%d probes, the slowest %v; memory up to %d KiB (%d KiB between probes), %d descriptors", asked, worst.Round(time.Millisecond), most, rss, fds)
	if len(failed) > 0 {
		t.Errorf("%d of %d probes not answered with 200 within %v: %s", len(failed), asked, probeLimit, strings.Join(failed[:min(5, len(failed))], "; "))
	}
	if most > memoryLimit {
		t.Errorf("held %d KiB, more than %d", most, memoryLimit)
	}
	begun := time.Now()
	eventually(t, "its descriptors are as before", func() bool { return i.descriptors(t) <= before })
	closed := time.Since(begun)
	eventually(t, "its memory is back", func() bool { return i.memory(t, "VmRSS") <= memoryAfter })
	t.Logf("%d KiB %v later, descriptors back after %v", i.memory(t, "VmRSS"), time.Since(begun).Round(time.Millisecond), closed.Round(time.Millisecond))
	i.intact(t, header)
}

// manyFiles lets this process, and those that it starts, have 6,000 connections.
func manyFiles(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur, limit.Max = max(limit.Cur, 8192), max(limit.Max, 8192)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// tool runs an attacking program to its end, and returns the number that the
// pattern finds in its output: proof that it did attack.
func tool(t *testing.T, pattern, name string, args ...string) int {
	t.Helper()
	out := output(t, nil, name, args...)
	found := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("%s printed no %q:\n%s", name, pattern, out)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// crowd keeps n connections for siegeTime, each of which begins with opening
// and then only listens. One that is closed comes again after a second or so.
// It returns how many there were.
func crowd(t *testing.T, addr string, n int, opening string) int {
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
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		<-turn
		if err != nil {
			return
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
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

// rapidReset asks and takes it back, as fast as it can, from n connections
// (CVE-2023-44487), and returns how often.
func rapidReset(t *testing.T, addr string, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siegeTime)
	defer cancel()
	var (
		attackers sync.WaitGroup
		resets    atomic.Int64
	)
	const batch = 100
	attack := func() {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		go io.Copy(io.Discard, c)
		io.WriteString(c, preface+frame(frameSettings, 0, 0, ""))
		for stream := uint32(1); stream < 1<<31-2*batch; {
			var pairs strings.Builder
			for range batch {
				pairs.WriteString(frame(frameHeaders, endStream|endHeaders, stream, fields))
				pairs.WriteString(frame(frameReset, 0, stream, "\x00\x00\x00\x08")) // CANCEL
				stream += 2
			}
			if _, err := io.WriteString(c, pairs.String()); err != nil {
				return
			}
			resets.Add(batch)
		}
	}
	for range n {
		attackers.Go(func() {
			for ctx.Err() == nil {
				attack()
			}
		})
	}
	attackers.Wait()
	return int(resets.Load())
}

// slowly runs slowhttptest in one of its modes with 4,000 connections, and
// returns how many of them it had opened when it last looked, up to a second
// before its end.
func slowly(t *testing.T, url string, mode ...string) int {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	output(t, nil, "slowhttptest", append(mode, "-c", "4000", "-r", "1000", "-l", "10", "-p", "1",
		"-u", url+"/health", "-g", "-o", report)...)
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

func TestProbesAreAnsweredUnderAttackWithin64MiB(t *testing.T) {
	manyFiles(t)
	const hello = preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // SETTINGS
	for _, row := range []struct {
		name   string
		attack func(t *testing.T, addr string) int
		least  int // what it must count to be an attack
		of     string
	}{
		{"slow headers", func(t *testing.T, addr string) int { return slowly(t, "http://"+addr, "-H", "-i", "1", "-x", "24") }, 3000, "connections"},
		{"slow bodies", func(t *testing.T, addr string) int {
			return slowly(t, "http://"+addr, "-B", "-i", "1", "-s", "8192", "-x", "10")
		}, 3000, "connections"},
		{"ranges", func(t *testing.T, addr string) int { return slowly(t, "http://"+addr, "-R", "-a", "10", "-b", "3000") }, 3000, "connections"},
		{"slow reads", func(t *testing.T, addr string) int {
			return slowly(t, "http://"+addr, "-X", "-w", "1", "-y", "20", "-n", "1", "-z", "5", "-k", "3")
		}, 3000, "connections"},
		{"a flood of fresh connections", func(t *testing.T, addr string) int {
			return tool(t, `(\d+) requests in`, "wrk", "-t1", "-c200", "-d6s", "-H", "Connection: close", "http://"+addr+"/health")
		}, 1000, "requests"},
		{"a flood of HTTP/2 streams", func(t *testing.T, addr string) int {
			return tool(t, `(\d+) succeeded`, "h2load", "-t1", "-c50", "-m100", "-D6", "http://"+addr+"/health")
		}, 1000, "requests"},
		{"rapid resets", func(t *testing.T, addr string) int { return rapidReset(t, addr, 20) }, 1000, "resets"},
		{"connections that say nothing", func(t *testing.T, addr string) int { return crowd(t, addr, 5000, "") }, 5000, "connections"},
		{"idle keep-alive connections", func(t *testing.T, addr string) int {
			return crowd(t, addr, 5000, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		}, 5000, "connections"},
		{"idle HTTP/2 connections", func(t *testing.T, addr string) int { return crowd(t, addr, 5000, hello) }, 5000, "connections"},
		{"headers of 16 KiB that do not end", func(t *testing.T, addr string) int {
			return crowd(t, addr, 600, "GET /health HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("a:b\r\n", (16<<10)/5))
		}, 600, "connections"},
		{"HTTP/2 headers of 16 KiB that do not end", func(t *testing.T, addr string) int {
			return crowd(t, addr, 600, hello+frame(frameHeaders, endStream, 1, fields+strings.Repeat("\x00\x01a\x01b", (16<<10)/5-10)))
		}, 600, "connections"},
	} {
		t.Run(row.name, func(t *testing.T) {
			i := start(t, nil)
			i.withstands(t, "", func() {
				n := row.attack(t, i.addr)
				if t.Logf("%d %s", n, row.of); n < row.least {
					t.Errorf("%d %s are no attack, want %d", n, row.of, row.least)
				}
			})
		})
	}
}

func TestProbesAreAnsweredOverTLSUnderAttackWithin64MiB(t *testing.T) {
	manyFiles(t)
	certificate := newCertificate(t, ecdsaKey(t))
	for name, attack := range map[string]func(t *testing.T, addr string){
		"slow headers": func(t *testing.T, addr string) {
			slowly(t, "https://"+addr, "-H", "-i", "1", "-x", "24")
		},
		"a flood of HTTP/2 streams": func(t *testing.T, addr string) {
			tool(t, `(\d+) succeeded`, "h2load", "-t1", "-c500", "-m100", "-D6", "https://"+addr+"/health")
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, certificate.install(t))
			i.trust = certificate.trust()
			i.withstands(t, "", func() { attack(t, i.addr) })
		})
	}
}

func TestAFloodOfWrongTokensFloodsNoLog(t *testing.T) {
	key := newKey()
	i := start(t, []string{"HEALTHD_JWT_SECRET=" + key}, "-auth", "jwt")
	wrong := mint(newKey(), map[string]any{"exp": time.Now().Add(time.Hour).Unix()})
	script := written(t, `wrk.headers["Authorization"] = "Bearer `+wrong+`"`)
	requests := 0
	begun := time.Now()
	i.withstands(t, authorization("jwt", key), func() {
		requests = tool(t, `(\d+) requests in`, "wrk", "-t1", "-c50", "-d6s", "-s", script, "http://"+i.addr+"/health")
	})
	took := time.Since(begun)
	written, left := 0, 0
	eventually(t, "every refusal is in the log or counted in it", func() bool {
		log := i.stderr.String()
		written, left = strings.Count(log, "msg=refused"), 0
		for _, line := range regexp.MustCompile(`msg="warnings left out" count=(\d+)`).FindAllStringSubmatch(log, -1) {
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

func TestOutOfDescriptorsItServesOn(t *testing.T) {
	i := start(t, nil)
	i.intact(t)
	before := i.descriptors(t)
	output(t, nil, "prlimit", "--nofile=64:64", "--pid", strconv.Itoa(i.Process.Pid))
	told := func() int {
		log := i.stderr.String()
		return strings.Count(log, "out of file descriptors") + strings.Count(log, "Accept error")
	}
	begun := time.Now()
	var idle sync.WaitGroup
	idle.Go(func() { t.Logf("%d connections", crowd(t, i.addr, 300, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")) })
	eventually(t, "its descriptors run out", func() bool { return told() > 0 })
	eventually(t, "it answers again", func() bool {
		a, err := (&client{addr: i.addr, fresh: true}).get("/health")
		return err == nil && a.code == 200
	})
	i.withstands(t, "", idle.Wait)
	eventually(t, "its descriptors are as before the crowd", func() bool { return i.descriptors(t) <= before })
	if got, most := told(), int(time.Since(begun).Seconds())+1; got > most {
		t.Errorf("%d lines tell of it, want one a second, %d at the most", got, most)
	}
}
