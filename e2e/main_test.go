//go:build e2e

// Package e2e runs the real binary under real clients: those that a Debian
// machine has packages for. Nothing leaves the loopback interface, no port is
// fixed, and whatever a test starts is stopped when the test ends.
package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// host is a loopback address that no client connects from (those have
	// 127.0.0.1), so none can take the port of an instance that restarts.
	host = "127.0.0.2"
	// patience bounds every wait for something that should come at once.
	patience = 20 * time.Second
	// buildTime bounds every command: the longest compiles Go's library.
	buildTime = 5 * time.Minute
)

// debianPath is where Debian's packages put programs. One of the same name
// elsewhere is another version, not the one that these tests were seen to pass
// with.
const debianPath = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/nagios/plugins"

// packages names the Debian package of every program that a test asks for.
var packages = map[string]string{
	"apache2":                      "libapache2-mod-security2",
	"bindfs":                       "bindfs",
	"busybox":                      "busybox-static",
	"caddy":                        "caddy",
	"check_http":                   "monitoring-plugins-basic",
	"curl":                         "curl",
	"docker":                       "docker.io",
	"dockerd":                      "docker.io",
	"h2load":                       "nghttp2-client",
	"haproxy":                      "haproxy",
	"kubectl":                      "kubernetes-client",
	"monit":                        "monit",
	"negate":                       "monitoring-plugins-basic",
	"nginx":                        "nginx",
	"nice":                         "coreutils",
	"openssl":                      "openssl",
	"prlimit":                      "util-linux",
	"prometheus":                   "prometheus",
	"prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
	"promtool":                     "prometheus",
	"python3":                      "python3-jwt",
	"qemu-aarch64-static":          "qemu-user-static",
	"qemu-arm-static":              "qemu-user-static",
	"redis-server":                 "redis-server",
	"setpriv":                      "util-linux",
	"slowhttptest":                 "slowhttptest",
	"systemd-analyze":              "systemd",
	"tar":                          "tar",
	"varnishd":                     "varnish",
	"varnishlog":                   "varnish",
	"wget":                         "wget",
	"wrk":                          "wrk",
}

// tmp holds the binary and is every program's home.
var tmp string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	var err error
	if tmp, err = os.MkdirTemp("", "healthd-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(tmp)
	if os.Getenv(attackEnv) != "" {
		return m.Run()
	}
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary(), "..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func binary() string { return filepath.Join(tmp, "healthd") }

// program finds a client. A missing one fails the test: a proof that was
// skipped looks like one that was given.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range filepath.SplitList(debianPath) {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found
		}
	}
	t.Fatalf("%s is missing: apt-get install %s", name, packages[name])
	return ""
}

// process is a program that the test has started, the leader of its own group.
type process struct {
	*exec.Cmd
	stdout, stderr buffer
	exited         chan struct{} // closed once ProcessState is set
}

// buffer is a bytes.Buffer that a process writes while the test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// spawn starts a program with env and nothing of the test's own environment.
// files are its descriptors 3 and up. At the end of the test it is killed with
// its group, and if the test failed, its output shown. Neither what a healthd
// prints nor anyone's command line may hold a secret of the tests.
func spawn(t *testing.T, files []*os.File, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.Env = append([]string{"PATH=" + debianPath, "HOME=" + tmp}, env...)
	p.ExtraFiles = files
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	p.WaitDelay = time.Second
	// The signal is for a test that is itself killed, and so cleans nothing up.
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	visible, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid)) // as ps shows it
	if leaks(string(visible)) || leaks(strings.Join(p.Args, " ")) {
		t.Errorf("the command line of %s shows a secret", filepath.Base(program))
	}
	go func() {
		p.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-p.exited:
		default:
			syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
			<-p.exited
		}
		if slices.Contains(p.Args, binary()) && leaks(p.stdout.String()+p.stderr.String()) {
			t.Error("healthd prints a secret")
		}
		if t.Failed() {
			t.Logf("%s: %v\n%s%s", filepath.Base(program), p.ProcessState, p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// signal sends s to the process alone, not to its group.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", filepath.Base(p.Path), err)
	}
}

// wait returns the exit code, or -1 if a signal ended the process.
func (p *process) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		t.Fatalf("%s still runs after %v", filepath.Base(p.Path), within)
	}
	return p.ProcessState.ExitCode()
}

// output runs a program to its end and returns its stdout. It must succeed.
func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	p := spawn(t, nil, env, program(t, name), args...)
	if code := p.wait(t, buildTime); code != 0 {
		t.Fatalf("%s %q: exit code %d\n%s", name, args, code, p.stderr.String())
	}
	return p.stdout.String()
}

// instance is a healthd that serves.
type instance struct {
	*process
	addr  string
	trust *tls.Config // how a client reaches it over TLS, if it speaks that
}

// start starts a healthd on a port of the kernel's choosing, or where
// HEALTHD_ADDR in env says, and waits until it listens.
func start(t *testing.T, env []string, args ...string) *instance {
	t.Helper()
	return startBy(t, nil, env, args...)
}

// startBy has a command start healthd in its own place: prlimit, or a shell
// that ends in exec.
func startBy(t *testing.T, by, env []string, args ...string) *instance {
	t.Helper()
	env = append([]string{"HEALTHD_ADDR=" + host + ":0"}, env...)
	command := slices.Concat(by, []string{binary()}, args)
	i := &instance{process: spawn(t, nil, env, command[0], command[1:]...)}
	listening := regexp.MustCompile(`msg=listening addr=(\S+)`)
	eventually(t, "healthd listens", func() bool {
		select {
		case <-i.exited:
			t.Fatal("healthd is gone before it listens")
		default:
		}
		line := listening.FindStringSubmatch(i.stderr.String())
		if line != nil {
			i.addr = line[1]
		}
		return line != nil
	})
	return i
}

// eventually polls until the condition holds, and fails the test if it does not.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-late:
			t.Fatalf("not so after %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// tells waits until /health at addr answers with this body. header is what a
// locked one wants.
func tells(t *testing.T, addr, header, body string) {
	t.Helper()
	eventually(t, "it tells "+body, func() bool {
		a, err := (&client{addr: addr, fresh: true, header: header}).get("/health")
		return err == nil && a.body == body
	})
}

// listen opens a TCP port to hand to a program that takes a listening
// descriptor.
func listen(t *testing.T) (addr string, f *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	f, err = l.(*net.TCPListener).File()
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return l.Addr().String(), f
}
