//go:build linux

// Package bench measures what a probe costs healthd, beside a bare net/http
// server (testdata/bare). Both are built and run as they are deployed; the
// clients are in this process, whose own processor time does not count.
//
//	make bench
//	go test ./bench -bench Probe/mode=kept4
package bench

import (
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// An operation is one request and its answer; of mode=start, a process from its
// exec to the end of the first 200.
func BenchmarkProbe(b *testing.B) {
	bare := server{name: "bare", path: build(b, "./testdata/bare")}
	healthd := server{name: "healthd", path: build(b, ".."), args: []string{"-addr", "127.0.0.1:0"}}
	both := []server{bare, healthd} // in this order: benchstat compares with the first
	fresh4 := load{clients: 4}.measure
	for _, row := range []struct {
		mode    string
		measure func(*testing.B, server)
		of      []server
	}{
		{"fresh500", load{clients: 64, every: time.Second / 500}.measure, both},
		{"fresh1", load{clients: 1}.measure, both},
		{"fresh4", fresh4, both},
		{"fresh4-basic", fresh4, []server{healthd.basic()}},
		{"fresh4-aksk", fresh4, []server{healthd.aksk()}},
		{"fresh4-jwt", fresh4, []server{healthd.jwt()}},
		{"fresh4-verbose", fresh4, []server{healthd.with("-verbose")}},
		{"fresh4-targets", fresh4, []server{healthd.targets(b, 3)}},
		{"fresh4-tls", fresh4, []server{healthd.tls(b)}},
		{"kept4", load{clients: 4, kept: true}.measure, both},
		{"start", starts, both},
		{"idle5000", crowds, both},
	} {
		for _, s := range row.of {
			b.Run("mode="+row.mode+"/server="+s.name, func(b *testing.B) { row.measure(b, s) })
		}
	}
}

// measure asks a server that is warm, for as long as -benchtime says.
func (l load) measure(b *testing.B, s server) {
	c := start(b, s)
	for range 200 {
		check(b, c.fresh())
	}
	before := c.cpu(b)
	took := l.run(b, c.client)
	report(b, c.cpu(b)-before, took, c.resident(b))
}

// starts measures the start, and what a process is before it has work to do.
func starts(b *testing.B, s server) {
	var (
		took     []time.Duration
		cpu      time.Duration
		resident float64
	)
	for b.Loop() {
		c := start(b, s)
		took = append(took, c.started)
		cpu += c.cpu(b)
		resident = c.resident(b)
		c.stop()
	}
	report(b, cpu, took, resident)
	info, err := os.Stat(s.path)
	check(b, err)
	b.ReportMetric(float64(info.Size()), "binary-B")
}

// crowds measures a server with 5,000 clients that have had an answer and stay.
// healthd keeps as many as it wants and closes the rest. It takes as many file
// descriptors (ulimit -Hn): package os has raised the soft limit to the hard one.
func crowds(b *testing.B, s server) {
	for b.Loop() {
		c := start(b, s)
		before := c.cpu(b)
		var took []time.Duration
		var open []net.Conn
		for range 5000 {
			begin := time.Now()
			conn, err := c.dial()
			check(b, err)
			open = append(open, conn)
			check(b, c.ask(conn, "keep-alive"))
			took = append(took, time.Since(begin))
		}
		report(b, c.cpu(b)-before, took, c.resident(b))
		c.stop()
		for _, conn := range open {
			conn.Close()
		}
	}
}

// report takes the server's processor time for all operations, how long each
// took, and the server's memory after them. benchstat scales ns and B.
func report(b *testing.B, cpu time.Duration, took []time.Duration, resident float64) {
	slices.Sort(took)
	b.ReportMetric(float64(cpu)/float64(len(took)), "cpu-ns/op")
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
	b.ReportMetric(resident, "resident-B")
	b.ReportMetric(0, "ns/op") // keeps the pace of the clients out
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
