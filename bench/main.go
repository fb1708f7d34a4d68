//go:build linux

// Bench measures what healthd costs beside a bare net/http server (bench/bare):
// both are built and run here, turn by turn, and asked by a client of the
// bench's own. It prints one table and judges nothing: the goals stand beside
// the figures, and the exit code is 0 whatever they are.
//
//	go run ./bench [-short]
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// plan is how much is measured. Every loop of the bench is bounded by it.
type plan struct {
	rounds  int // of the processor's cost and the answer's time
	slices  int // of a round: how often the servers take turns in it
	paced   int // probes at 500/s in a slice
	fresh   int // probes without a pause, a connection each, in a slice
	kept    int // requests without a pause over kept connections in a slice
	starts  int // of each server
	crowds  int // of idle connections, for each server
	limited int // rounds under a CPU limit
}

var (
	full  = plan{rounds: 15, slices: 4, paced: 400, fresh: 600, kept: 3000, starts: 61, crowds: 5, limited: 5}
	short = plan{rounds: 9, slices: 2, paced: 200, fresh: 300, kept: 1500, starts: 31, crowds: 3, limited: 3}
)

func main() {
	brief := flag.Bool("short", false, "finish in about a minute")
	flag.Parse()
	p := full
	if *brief {
		p = short
	}
	// Children end with ctx; returning, and not os.Exit, removes the rest.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, p, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, out io.Writer) error {
	dir, err := os.MkdirTemp("", "healthd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	servers, release, err := newServers(ctx, dir)
	if err != nil {
		return err
	}
	defer release()
	b := &bench{plan: p, servers: servers, samples: make(samples), failed: make(map[string]int)}
	begin := time.Now()
	notes := []string{fmt.Sprintf("%s, %d cores, Linux %s, load average before %s",
		runtime.Version(), runtime.NumCPU(), firstLine("/proc/sys/kernel/osrelease"), loadAverage())}
	for _, part := range []func(context.Context) (note string, err error){
		b.size, b.allocations, b.start, b.cost, b.crowd, b.limit,
	} {
		note, err := part(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if note != "" {
			notes = append(notes, note)
		}
	}
	for name, n := range b.failed {
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%s left %d probes without an answer.", name, n))
		}
	}
	notes = append(notes, fmt.Sprintf("%s in all, load average after %s", time.Since(begin).Round(time.Second), loadAverage()))
	b.samples.print(out)
	fmt.Fprintln(out)
	for _, note := range notes {
		fmt.Fprintln(out, note)
	}
	return nil
}

// size is that of the two binaries.
func (b *bench) size(context.Context) (string, error) {
	for _, s := range []*server{b.servers[plain], b.servers[bare]} {
		info, err := os.Stat(s.path)
		if err != nil {
			return "", err
		}
		b.add(s.name, "size", float64(info.Size())/(1<<20))
	}
	return "", nil
}

// allocations asks the handler's own benchmark, which the bench cannot call.
func (b *bench) allocations(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkHealth$", "-benchmem", "-benchtime", "1000x", "healthd").Output()
	found := regexp.MustCompile(`(\d+) allocs/op`).FindSubmatch(out)
	if err != nil || found == nil {
		return "The handler's allocations are not known: its benchmark did not run.", nil
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	b.add(plain, "allocations", n)
	return "", err
}

// build makes the program of a package as `make build` does.
func build(ctx context.Context, dir, pkg string) (path string, err error) {
	path = filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

func firstLine(path string) string {
	content, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

// loadAverage tells how much company the bench had.
func loadAverage() string {
	one, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	return one
}
