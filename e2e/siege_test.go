//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	siegeTime = 4 * time.Second
)

// fortress is a healthd that can be attacked: where a cgroup is to be had, it
// is in one of its own.
type fortress struct {
	*instance
	cgroup string
}

// besieged starts a healthd, over TLS if there is a certificate.
func besieged(t *testing.T, crt *certificate, env []string, args ...string) *fortress {
	t.Helper()
	manyFiles(t)
	if crt != nil {
		env = slices.Concat(crt.install(t), env)
	}
	i := &fortress{cgroup: newCgroup(t)}
	var by []string
	if i.cgroup != "" {
		by = []string{"/bin/sh", "-c", `echo $$ >"$0/cgroup.procs"; exec "$@"`, i.cgroup}
	}
	i.instance = startBy(t, by, env, args...)
	if crt != nil {
		i.trust = crt.trust()
	}
	return i
}

// cgroupPeaks are the files that tell the most that a cgroup ever held, sockets
// and pages of files included: of version 2 and of version 1.
var cgroupPeaks = []string{"memory.peak", "memory.max_usage_in_bytes"}

// newCgroup makes a cgroup below the test's own that counts memory, and returns
// its directory, or nothing if none is to be had: what it counts is only logged.
func newCgroup(t *testing.T) string {
	own, _ := os.ReadFile("/proc/self/cgroup")
	for _, version := range []struct{ line, root string }{
		{`(?m)^\d+:(?:.*,)?memory(?:,.*)?:(.*)$`, "/sys/fs/cgroup/memory"},
		{`(?m)^0::(.*)$`, "/sys/fs/cgroup"},
	} {
		found := regexp.MustCompile(version.line).FindSubmatch(own)
		if found == nil {
			continue
		}
		dir, err := os.MkdirTemp(filepath.Join(version.root, string(found[1])), "healthd-e2e-")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			eventually(t, "its cgroup is gone", func() bool { return syscall.Rmdir(dir) == nil })
		})
		for _, peak := range cgroupPeaks {
			if _, err := os.Stat(filepath.Join(dir, peak)); err == nil {
				return dir
			}
		}
	}
	return ""
}

// cgroupPeak is for the log: in KiB, or that there is none.
func (i *fortress) cgroupPeak() string {
	for _, peak := range cgroupPeaks {
		text, err := os.ReadFile(filepath.Join(i.cgroup, peak))
		if n, wrong := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && wrong == nil {
			return fmt.Sprintf("its cgroup up to %d KiB", n>>10)
		}
	}
	return "no cgroup"
}

// memory returns a field of /proc/PID/status in KiB: VmRSS is what the process
// holds now, VmHWM the most that it ever held.
func (i *instance) memory(t *testing.T, field string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.Process.Pid))
	found := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
	if err != nil || found == nil {
		t.Errorf("no %s of healthd: %v", field, err)
		return 0
	}
	kib, err := strconv.Atoi(string(found[1]))
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

// http2 asks /health by net/http's client, over HTTP/2 and on one connection:
// that client would ask again on another if the first were closed.
func (i *instance) http2(header string) (a answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url, protocols := "http://"+i.addr+"/health", new(http.Protocols)
	protocols.SetUnencryptedHTTP2(i.trust == nil)
	if i.trust != nil {
		url = "https://" + i.addr + "/health"
		protocols.SetHTTP2(true)
	}
	var conn atomic.Pointer[net.Conn]
	transport := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: i.trust.Clone(),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil && !conn.CompareAndSwap(nil, &c) {
				c.Close()
				return nil, errors.New("its connection was closed before the answer")
			}
			return c, err
		},
	}
	defer func() {
		transport.CloseIdleConnections()
		if c := conn.Load(); c != nil {
			(*c).Close()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return a, err
	}
	for line := range strings.Lines(header) {
		name, value, _ := strings.Cut(line, ":")
		req.Header.Add(name, strings.TrimSpace(value))
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.ProtoMajor != 2 {
		err = errors.New("answered by " + resp.Proto)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(body), resp.Close}, err
}

// withstands fails unless, for as long as attack runs, every probe on a
// connection of its own is answered in time, over HTTP/1.1 and over HTTP/2,
// within the limit of memory; and unless memory and descriptors come back
// afterwards.
func (i *fortress) withstands(t *testing.T, header string, attack func()) {
	t.Helper()
	ask := map[string]func() (answer, error){
		"HTTP/1.1": func() (answer, error) {
			return (&client{addr: i.addr, tls: i.trust, fresh: true, header: "Connection: close\r\n" + header}).get("/health")
		},
		"HTTP/2": func() (answer, error) { return i.http2(header) },
	}
	for kind, ask := range ask {
		if a, err := ask(); err != nil || a.code != 200 {
			t.Fatalf("before the attack, over %s: %+v, %v", kind, a, err)
		}
	}
	before := i.descriptors(t)

	var (
		over   = make(chan struct{})
		probes sync.WaitGroup
		mu     sync.Mutex
		asked  int
		worst  = make(map[string]time.Duration)
		failed = make(map[string][]string)
		fds    int
		begun  = time.Now()
	)
	probe := func(kind string, at time.Time) {
		a, err := ask[kind]()
		took := time.Since(at)
		if err == nil && (a.code != 200 || !a.own()) {
			err = fmt.Errorf("answer %+v", a)
		}
		mu.Lock()
		defer mu.Unlock()
		asked++
		worst[kind] = max(worst[kind], took)
		if err != nil || took > probeLimit {
			failed[kind] = append(failed[kind], fmt.Sprintf("at %v: %v after %v", at.Sub(begun).Round(time.Millisecond), err, took.Round(time.Millisecond)))
		}
	}
	probes.Go(func() {
		tick := time.NewTicker(probePace)
		defer tick.Stop()
		for {
			for kind := range ask {
				probes.Go(func() { probe(kind, time.Now()) })
			}
			fds = max(fds, i.descriptors(t))
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	func() {
		defer probes.Wait()
		defer close(over) // if attack ends the test, too
		attack()
	}()

	most := i.memory(t, "VmHWM")
	t.Logf("%d probes, the slowest %v over HTTP/1.1 and %v over HTTP/2; memory up to %d KiB, %s; %d descriptors",
		asked, worst["HTTP/1.1"].Round(time.Millisecond), worst["HTTP/2"].Round(time.Millisecond), most, i.cgroupPeak(), fds)
	for _, kind := range slices.Sorted(maps.Keys(failed)) {
		late := failed[kind]
		t.Errorf("%d of %d probes over %s not answered with 200 within %v: %s", len(late), asked/2, kind, probeLimit, strings.Join(late[:min(5, len(late))], "; "))
	}
	if most > memoryLimit {
		t.Errorf("held %d KiB, more than %d", most, memoryLimit)
	}
	ended := time.Now()
	eventually(t, "its descriptors are as before", func() bool { return i.descriptors(t) <= before })
	closed := time.Since(ended)
	eventually(t, "its memory is back", func() bool { return i.memory(t, "VmRSS") <= memoryAfter })
	t.Logf("%d KiB %v later, descriptors back after %v", i.memory(t, "VmRSS"), time.Since(ended).Round(time.Millisecond), closed.Round(time.Millisecond))
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
