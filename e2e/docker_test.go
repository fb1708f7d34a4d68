//go:build e2e

package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docker is a client of the test's own daemon.
type docker struct{ env []string }

// startDocker starts a Docker that shares nothing with the machine's own, and
// that touches neither its firewall nor its interfaces.
func startDocker(t *testing.T) docker {
	t.Helper()
	dir := t.TempDir()
	d := docker{[]string{"DOCKER_HOST=unix://" + dir + "/sock", "DOCKER_BUILDKIT=1"}}
	daemon := spawn(t, nil, nil, program(t, "dockerd"), "--host", "unix://"+dir+"/sock",
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid",
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none")
	t.Cleanup(func() {
		daemon.Process.Signal(syscall.SIGTERM) // it stops its containers and its containerd
		select {
		case <-daemon.exited:
		case <-time.After(time.Minute):
			t.Error("dockerd does not stop")
		}
		unmount(t, dir)
	})
	eventually(t, "dockerd answers", func() bool {
		conn, err := net.Dial("unix", dir+"/sock")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return d
}

// unmount unmounts what dockerd leaves behind: the namespace of the host
// network, for one.
func unmount(t *testing.T, dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, dir+"/") {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", at, err)
			}
		}
	}
}

// do runs one docker command, which must succeed, and returns what it printed.
func (d docker) do(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(output(t, d.env, "docker", args...))
}

// importGo makes the build image out of this machine's Go and a busybox: the
// registry of the real one is out of reach.
func (d docker) importGo(t *testing.T, image string) {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	busybox := program(t, "busybox")
	tar := filepath.Join(t.TempDir(), "go.tar")
	output(t, nil, "tar", "-chf", tar,
		"--exclude=src/cmd", "--exclude=testdata", "--exclude=*_test.go",
		"--transform", `s,^\(bin\|pkg\|src\|VERSION\|go.env\),usr/local/go/&,`, "--transform", "s,^busybox$,bin/sh,",
		"-C", strings.TrimSpace(string(goroot)), "bin/go", "pkg/include", "pkg/tool", "src", "VERSION", "go.env",
		"-C", filepath.Dir(busybox), filepath.Base(busybox),
		"--no-recursion", "-C", "/", "tmp")
	d.do(t, "import", "--change", "ENV PATH=/usr/local/go/bin:/usr/bin:/bin", tar, image)
}

// run starts the image, as confined as Docker can make it, at addr. more are
// further options of "docker run".
func (d docker) run(t *testing.T, image, addr, drain string, more ...string) (container string) {
	t.Helper()
	args := append([]string{"run", "--detach", "--network", "host",
		"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "64m",
		"--health-interval", "200ms", "--env", "HEALTHD_ADDR=" + addr, "--env", "HEALTHD_DRAIN=" + drain}, more...)
	container = d.do(t, append(args, image)...)
	t.Cleanup(func() {
		logs := spawn(t, nil, d.env, program(t, "docker"), "logs", container) // shown if the test fails
		logs.wait(t, patience)
		if leaks(logs.stdout.String() + logs.stderr.String()) {
			t.Error("healthd prints a secret")
		}
		d.do(t, "rm", "--force", container)
	})
	return container
}

func (d docker) inspect(t *testing.T, object, field string) string {
	t.Helper()
	return d.do(t, "inspect", "--format", "{{"+field+"}}", object)
}

func TestDockerImage(t *testing.T) {
	d := startDocker(t)
	d.importGo(t, "golang:1.26")
	const image = "healthd:e2e"
	d.do(t, "build", "--network", "none", "--build-arg", "VERSION=v0.0.0-e2e", "--tag", image, "..")

	t.Run("holds a version, labels and a user that is a number", func(t *testing.T) {
		size, err := strconv.Atoi(d.inspect(t, image, ".Size"))
		if err != nil || size > 10<<20 {
			t.Errorf("size %d (%v), want 10 MiB at most", size, err)
		}
		t.Logf("the image is %.1f MiB", float64(size)/(1<<20))
		if user := d.inspect(t, image, ".Config.User"); !regexp.MustCompile(`^[1-9]\d*(:[1-9]\d*)?$`).MatchString(user) {
			t.Errorf("user %q, want a number that is not 0", user)
		}
		for _, label := range []string{"title", "description", "version"} {
			if d.inspect(t, image, `index .Config.Labels "org.opencontainers.image.`+label+`"`) == "" {
				t.Errorf("no label %s", label)
			}
		}
		if got := d.do(t, "run", "--rm", "--network", "none", image, "-version"); got != "healthd v0.0.0-e2e" {
			t.Errorf("-version prints %q", got)
		}
	})

	t.Run("is healthy, then unhealthy once it drains", func(t *testing.T) {
		id := d.run(t, image, freeAddr(t), "1m")
		status := func(want string) func() bool {
			return func() bool { return d.inspect(t, id, ".State.Health.Status") == want }
		}
		eventually(t, "healthy", status("healthy"))
		d.do(t, "kill", "--signal", "TERM", id)
		eventually(t, "unhealthy", status("unhealthy"))
	})

	t.Run("is healthy behind a lock, also when its key is replaced", func(t *testing.T) {
		before, after, addr, dir := newPair(), newPair(), freeAddr(t), t.TempDir()
		replace := func(credential string) {
			t.Helper()
			err := os.WriteFile(dir+"/new", []byte(credential), 0o600)
			err = errors.Join(err, os.Chmod(dir+"/new", 0o644), os.Rename(dir+"/new", dir+"/basic")) // the container's user is another
			if err != nil {
				t.Fatal(err)
			}
		}
		admits := func(credential string) bool {
			t.Helper()
			a, err := (&client{addr: addr, fresh: true, header: authorization("basic", credential)}).get("/health")
			if err != nil {
				t.Fatal(err)
			}
			return a.code == 200
		}
		replace(before)
		// The folder, for a file that is mounted alone stays the one that was renamed over.
		id := d.run(t, image, addr, "0", "--volume", dir+":/run/keys:ro",
			"--env", "HEALTHD_AUTH=basic", "--env", "HEALTHD_BASIC_FILE=/run/keys/basic")
		eventually(t, "healthy", func() bool { return d.inspect(t, id, ".State.Health.Status") == "healthy" })
		if got := get(t, addr); got.code != 401 || !admits(before) || admits(after) {
			t.Errorf("without the credential: %+v, or another is admitted in its place", got)
		}
		replace(after)
		eventually(t, "the new one is admitted", func() bool { return admits(after) })
		eventually(t, "the old one is refused", func() bool { return !admits(before) })
		if got := d.do(t, "exec", id, "/healthd", "probe"); got != healthy {
			t.Errorf("healthd probe: %s", got)
		}
		if leaks(d.do(t, "inspect", id)) {
			t.Error("docker inspect, the last probes' output in it, shows a secret")
		}
	})

	t.Run("probes https elsewhere with a mounted CA, having none", func(t *testing.T) {
		crt := newCertificate(t, ecdsaKey(t))
		elsewhere := start(t, crt.install(t))
		ca := written(t, crt.cert)
		if err := os.Chmod(ca, 0o644); err != nil {
			t.Fatal(err)
		}
		asks := func(options ...string) *process {
			t.Helper()
			args := slices.Concat([]string{"run", "--rm", "--network", "host", "--volume", ca + ":/ca.pem:ro"}, options,
				[]string{image, "probe", "https://" + elsewhere.addr + "/health"})
			return spawn(t, nil, d.env, program(t, "docker"), args...)
		}
		without, with := asks(), asks("--env", "SSL_CERT_FILE=/ca.pem")
		if code := without.wait(t, patience); code != 1 || !strings.Contains(without.stdout.String(), "certificate") {
			t.Errorf("without SSL_CERT_FILE: exit code %d, %q", code, without.stdout.String())
		}
		if code := with.wait(t, patience); code != 0 || with.stdout.String() != healthy+"\n" {
			t.Errorf("with it: exit code %d, %q", code, with.stdout.String())
		}
	})

	t.Run("drains and exits 0 at docker stop", func(t *testing.T) {
		addr := freeAddr(t)
		id := d.run(t, image, addr, "3s")
		tells(t, addr, "", healthy)
		stop := spawn(t, nil, d.env, program(t, "docker"), "stop", id)
		tells(t, addr, "", draining)
		if code := stop.wait(t, patience); code != 0 {
			t.Errorf("docker stop: exit code %d", code)
		}
		if got := d.inspect(t, id, ".State.ExitCode"); got != "0" {
			t.Errorf("exit code %s, want 0", got)
		}
	})

	for _, row := range []struct {
		platform, architecture string
		emulator               []string
	}{
		{"linux/arm64", "arm64", []string{"qemu-aarch64-static"}},
		{"linux/arm/v6", "armv6", []string{"qemu-arm-static", "-cpu", "arm1176"}}, // of the first Raspberry Pi
	} {
		t.Run("is built for "+row.platform, func(t *testing.T) {
			build := []string{"build", "--network", "none", "--platform", row.platform, ".."}
			d.do(t, append(build, "--tag", "healthd:other")...)
			if got := d.inspect(t, "healthd:other", ".Architecture") + d.inspect(t, "healthd:other", ".Variant"); got != row.architecture {
				t.Errorf("architecture %q, want %q", got, row.architecture)
			}
			dir := t.TempDir()
			d.do(t, append(build, "--output", dir)...)
			if got := output(t, nil, row.emulator[0], append(row.emulator[1:], dir+"/healthd", "-version")...); got != "healthd dev\n" {
				t.Errorf("-version prints %q", got)
			}
		})
	}
}

// freeAddr returns an address for a program that must be told its port.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
