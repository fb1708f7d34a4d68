//go:build linux

package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// patience bounds a start, and the wait for an answer.
const patience = 10 * time.Second

// server is a program with the settings that it is measured with.
type server struct {
	name   string
	path   string
	args   []string
	env    []string
	client client // has no address before the server runs
}

// build makes the program of a package as `make build` does.
func build(b *testing.B, pkg string) (path string) {
	path = filepath.Join(b.TempDir(), "server")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("cannot build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// child is a running server.
type child struct {
	client
	pid     int
	started time.Duration // from the exec to the end of the first 200
	stop    func()        // at once, without a drain
}

// start runs the server until its stop or the end of b.
func start(b *testing.B, s server) *child {
	cmd := exec.Command(s.path, s.args...)
	cmd.Env = append([]string{}, s.env...) // defaults are measured: nothing is inherited
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	check(b, err)
	begin := time.Now()
	check(b, cmd.Start())
	var reading sync.WaitGroup
	c := &child{client: s.client, pid: cmd.Process.Pid, stop: sync.OnceFunc(func() {
		cmd.Process.Kill()
		reading.Wait()
		cmd.Wait()
	})}
	b.Cleanup(c.stop)
	for lines, said := bufio.NewScanner(log), ""; c.addr == ""; {
		if !lines.Scan() {
			b.Fatalf("%s does not listen: %s", s.path, said)
		}
		said = lines.Text()
		_, rest, _ := strings.Cut(said, "msg=listening addr=")
		c.addr, _, _ = strings.Cut(rest, " ")
	}
	reading.Go(func() { io.Copy(io.Discard, log) }) // as a container's log is read
	err = c.fresh()
	for err != nil && time.Since(begin) < patience { // 503 until the targets have been checked
		err = c.fresh()
	}
	check(b, err)
	c.started = time.Since(begin)
	return c
}

// cpu is the child's user and system time so far, by its CPU-time clock
// (clock_getcpuclockid(3)): /proc/PID/stat counts in hundredths of a second, and
// schedstat is a tick late for a thread that runs.
func (c *child) cpu(b *testing.B) time.Duration {
	const sched = 2 // CPUCLOCK_SCHED
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^c.pid<<3|sched), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		b.Fatal(errno)
	}
	return time.Duration(t.Nano())
}

// resident is the child's resident memory in bytes, counted page by page: VmRSS
// of /proc/PID/status is off by some dozens of pages a core.
func (c *child) resident(b *testing.B) (size float64) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", c.pid))
	check(b, err)
	_, rss, _ := strings.Cut(string(rollup), "Rss:")
	_, err = fmt.Sscan(rss, &size)
	check(b, err)
	return size * 1024
}
