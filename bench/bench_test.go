//go:build linux

// Package bench measures what a probe costs healthd, beside a bare net/http
// server (testdata/bare). Both are built and run as they are deployed; the
// clients are in this process, whose own processor time does not count.
//
//	make bench
//	go test ./bench -bench Probe/mode=kept4
package bench

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An operation is one request and its answer; of mode=start, a process from its
// exec to the end of the first 200.
func BenchmarkProbe(b *testing.B) {
	dir := b.TempDir()
	b.Setenv("CGO_ENABLED", "0") // all as make build does
	goCommand(b, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir, "..", "./testdata/bare")
	bare := server{name: "bare", path: dir + "/bare", dial: net.Dial}
	healthd := server{name: "healthd", path: dir + "/healthd", dial: net.Dial}
	target, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: a connection in the backlog is one
	check(b, err)
	defer target.Close()
	url := "tcp://" + target.Addr().String()
	run := func(mode string, measure func(*testing.B, server), of ...server) {
		for _, s := range of {
			b.Run("mode="+mode+"/server="+s.name, func(b *testing.B) { measure(b, s) })
		}
	}
	fresh4 := load{clients: 4}.measure
	// Bare comes first: benchstat compares with the first.
	run("fresh500", load{clients: 64, every: time.Second / 500}.measure, bare, healthd)
	run("fresh1", load{clients: 1}.measure, bare, healthd)
	run("fresh4", fresh4, bare, healthd)
	run("fresh4-basic", fresh4, healthd.locked("basic", "HEALTHD_BASIC"))
	run("fresh4-aksk", fresh4, healthd.locked("aksk", "HEALTHD_AKSK"))
	run("fresh4-jwt", fresh4, healthd.locked("jwt", "HEALTHD_JWT_SECRET"))
	run("fresh4-verbose", fresh4, healthd.with("HEALTHD_VERBOSE=true"))
	run("fresh4-targets", fresh4, healthd.with("HEALTHD_TARGETS="+url+","+url+","+url))
	run("fresh4-tls", fresh4, healthd.tls(b))
	run("kept4", load{clients: 4, kept: true}.measure, bare, healthd)
	run("start", starts, bare, healthd)
	run("idle5000", crowds, bare, healthd)
}

// load is clients that ask at once, over a fresh connection each time or over one
// that is kept: without a pause or, all together, once in every. That rate is kept
// when the server is slow, too, until all clients wait.
type load struct {
	clients int
	every   time.Duration
	kept    bool
}

// measure asks a server that is warm, for as long as -benchtime says.
func (l load) measure(b *testing.B, s server) {
	c := start(b, s)
	for range 200 {
		check(b, c.fresh())
	}
	pace := time.Tick(l.every) // nil without a rate
	more := true
	var mu sync.Mutex // b.Loop is not for several goroutines
	next := func() bool {
		mu.Lock()
		defer mu.Unlock()
		if pace != nil {
			<-pace
		}
		more = more && !b.Failed() && b.Loop()
		return more
	}
	took := make([][]time.Duration, l.clients)
	var clients sync.WaitGroup
	before := c.cpu(b)
	for i := range took {
		ask := c.fresh
		if l.kept {
			conn, err := c.dial("tcp", c.addr)
			check(b, err)
			defer conn.Close()
			ask = func() error { return c.ask(conn, "keep-alive") }
		}
		clients.Go(func() {
			for next() {
				begin := time.Now()
				if err := ask(); err != nil {
					b.Error(err)
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	clients.Wait()
	report(b, c, c.cpu(b)-before, slices.Concat(took...))
}

// starts measures the start, and what a process is before it has work to do.
func starts(b *testing.B, s server) {
	var took []time.Duration
	var cpu time.Duration
	for b.Loop() {
		c := start(b, s)
		took = append(took, c.started)
		cpu += c.cpu(b)
		report(b, c, cpu, took)
		c.stop()
	}
	info, err := os.Stat(s.path)
	check(b, err)
	b.ReportMetric(float64(info.Size()), "binary-B")
}

// crowds measures a server with 5,000 clients that have had an answer and stay.
// healthd keeps as many as it wants and closes the rest. Each side needs as many files (ulimit -Hn).
func crowds(b *testing.B, s server) {
	for b.Loop() {
		c := start(b, s)
		before := c.cpu(b)
		took, open := make([]time.Duration, 5000), make([]net.Conn, 5000)
		for i := range open {
			begin := time.Now()
			conn, err := c.dial("tcp", c.addr)
			check(b, err)
			check(b, c.ask(conn, "keep-alive"))
			took[i], open[i] = time.Since(begin), conn
		}
		report(b, c, c.cpu(b)-before, took)
		c.stop()
		for _, conn := range open {
			conn.Close()
		}
	}
}

// report takes the server's processor time for all operations, and how long each
// took. benchstat scales ns and B. Resident memory is counted page by page: VmRSS
// of /proc/PID/status is off by some dozens of pages a core.
func report(b *testing.B, c *child, cpu time.Duration, took []time.Duration) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", c.pid))
	check(b, err)
	_, rss, _ := strings.Cut(string(rollup), "Rss:")
	var kib float64
	_, err = fmt.Sscan(rss, &kib)
	check(b, err)
	slices.Sort(took)
	b.ReportMetric(float64(cpu)/float64(len(took)), "cpu-ns/op")
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
	b.ReportMetric(kib*1024, "resident-B")
	b.ReportMetric(0, "ns/op") // keeps the pace of the clients out
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
