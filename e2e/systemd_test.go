//go:build e2e

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// systemd is one that runs as process 1 of a container, with the unit that
// users copy and the binary where the unit looks for it.
type systemd struct {
	docker
	id string
}

// startSystemd boots this machine's systemd into the unit. settings are the
// first content of /etc/healthd.env.
func startSystemd(t *testing.T, settings string) systemd {
	t.Helper()
	program(t, "systemd-analyze") // of the same package as systemd itself
	d, root := startDocker(t), t.TempDir()
	unit, err := os.ReadFile("../deploy/systemd/healthd.service")
	for _, dir := range []string{"dev", "etc/healthd", "etc/systemd/system", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for name, content := range map[string]string{
		"etc/passwd":                         "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":                          "root:x:0:\n",
		"etc/healthd.env":                    settings,
		"etc/systemd/system/healthd.service": string(unit),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		err = errors.Join(err, os.Symlink("usr/"+dir, filepath.Join(root, dir)))
	}
	err = errors.Join(err, os.Link(binary(), root+"/usr/local/bin/healthd"))
	if err != nil {
		t.Fatal(err)
	}
	tar := filepath.Join(t.TempDir(), "root.tar")
	output(t, nil, "tar", "-C", root, "-cf", tar, ".")
	d.do(t, "import", tar, "systemd")

	args := []string{"run", "--detach", "--network", "none", "--env", "container=docker", "--tmpfs", "/run", "--tmpfs", "/tmp"}
	for _, dir := range []string{"bin", "lib", "lib64", "sbin", "share"} {
		args = append(args, "--volume", "/usr/"+dir+":/usr/"+dir+":ro")
	}
	// What it takes to be a systemd: control groups, mounts, and user namespaces
	// of other processes.
	args = append(args, "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup", "--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
	// Mounts that do not spread would leave the folder of LoadCredential= empty.
	args = append(args, "systemd", "sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd --unit=healthd.service")
	s := systemd{d, d.do(t, args...)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.do(t, "exec", s.id, "journalctl", "--no-pager", "--unit=healthd"))
		}
		s.do(t, "rm", "--force", s.id)
	})
	eventually(t, "systemd has loaded the unit", func() bool {
		show := spawn(t, nil, d.env, program(t, "docker"), "exec", s.id, "systemctl", "show", "--value", "--property=LoadState", "healthd")
		show.wait(t, patience)
		return show.stdout.String() == "loaded\n"
	})
	return s
}

func (s systemd) systemctl(t *testing.T, args ...string) string {
	t.Helper()
	return s.do(t, append([]string{"exec", s.id, "systemctl"}, args...)...)
}

func (s systemd) property(t *testing.T, name string) string {
	t.Helper()
	return s.systemctl(t, "show", "--value", "--property="+name, "healthd")
}

func (s systemd) restarts(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(s.property(t, "NRestarts"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// answers reports whether healthd is healthy. settings are the probe's.
func (s systemd) answers(t *testing.T, settings ...string) bool {
	t.Helper()
	args := []string{"exec"}
	for _, setting := range settings {
		args = append(args, "--env", setting)
	}
	p := spawn(t, nil, s.env, program(t, "docker"), append(args, s.id, "/usr/local/bin/healthd", "probe")...)
	return p.wait(t, patience) == 0 && p.stdout.String() == healthy+"\n"
}

func (s systemd) journal(t *testing.T) string {
	t.Helper()
	return s.do(t, "exec", s.id, "journalctl", "--unit=healthd")
}

func TestSystemdStartsHealthdUntilItsAddressIsThere(t *testing.T) {
	s := startSystemd(t, "HEALTHD_ADDR=192.0.2.1:8080\n")
	// By default it would have given up after five.
	eventually(t, "it is started again and again", func() bool { return s.restarts(t) >= 6 })
	s.do(t, "exec", s.id, "sh", "-c", "echo HEALTHD_ADDR=127.0.0.1:8080 >/etc/healthd.env")
	eventually(t, "it answers", func() bool { return s.answers(t) })
}

func TestSystemdStartsHealthdAgainWhenItCrashes(t *testing.T) {
	s := startSystemd(t, "")
	eventually(t, "it answers", func() bool { return s.answers(t) })
	for n, crash := range []struct{ signal, exit string }{
		{"QUIT", "code=exited, status=2/"}, // what Go's runtime makes of it and of a panic
		{"KILL", "code=killed, status=9/"},
	} {
		s.systemctl(t, "kill", "--signal="+crash.signal, "healthd")
		eventually(t, "it is started again after SIG"+crash.signal, func() bool { return s.restarts(t) == n+1 && s.answers(t) })
		eventually(t, "the journal tells of "+crash.exit, func() bool { return strings.Contains(s.journal(t), crash.exit) })
	}
}

func TestSystemdReloadsHealthdWithoutARestart(t *testing.T) {
	s := startSystemd(t, "")
	eventually(t, "it answers", func() bool { return s.answers(t) })
	before := s.property(t, "MainPID")
	s.systemctl(t, "reload", "healthd")
	if after := s.property(t, "MainPID"); !s.answers(t) || after != before {
		t.Errorf("process %s, and then %s, which has to answer", before, after)
	}
}

func TestSystemdStopsHealthdAfterItsDrain(t *testing.T) {
	s := startSystemd(t, "HEALTHD_DRAIN=100ms\n")
	eventually(t, "it answers", func() bool { return s.answers(t) })
	s.systemctl(t, "stop", "healthd")
	if state, result := s.property(t, "ActiveState"), s.property(t, "Result"); state != "inactive" || result != "success" {
		t.Errorf("%s, %s; want inactive, success", state, result)
	}
	eventually(t, "the journal tells of the drain", func() bool { return strings.Contains(s.journal(t), "msg=draining") })
}

// The unit's comments have two drop-ins for a lock, and what to do for the second.
func TestSystemdHandsHealthdItsKeys(t *testing.T) {
	unit, err := os.ReadFile("../deploy/systemd/healthd.service")
	if err != nil {
		t.Fatal(err)
	}
	comments := regexp.MustCompile(`(?m)^# +(?:with: +)?((?:Environment|LoadCredential|SupplementaryGroups)=.*|(?:groupadd|chgrp|chmod) .*)$`).
		FindAllStringSubmatch(string(unit), -1)
	if len(comments) != 7 {
		t.Fatalf("%d lines: %q", len(comments), comments)
	}
	line := func(n int) string { return comments[n][1] + "\n" }

	s := startSystemd(t, "HEALTHD_DRAIN=0\n")
	s.do(t, "cp", written(t, newPair()+"\n"), s.id+":/etc/healthd/aksk")
	s.do(t, "exec", s.id, "mkdir", "/etc/systemd/system/healthd.service.d")
	for _, row := range []struct{ name, dropIn, commands string }{
		{"by LoadCredential", line(0) + line(1), ""},
		{"by a group", line(2) + line(3), line(4) + line(5) + line(6)},
	} {
		dropIn := filepath.Join(t.TempDir(), "lock.conf")
		if err := os.WriteFile(dropIn, []byte("[Service]\n"+row.dropIn), 0o644); err != nil {
			t.Fatal(err)
		}
		s.do(t, "cp", dropIn, s.id+":/etc/systemd/system/healthd.service.d/")
		s.do(t, "exec", s.id, "sh", "-ec", row.commands+"systemctl daemon-reload; systemctl restart healthd")
		eventually(t, row.name+" it has its key", func() bool { return s.answers(t, "HEALTHD_AUTH=aksk", "HEALTHD_AKSK_FILE=/etc/healthd/aksk") })
		if s.answers(t) {
			t.Errorf("%s: it answers without a key", row.name)
		}
	}
}
