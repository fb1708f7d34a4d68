//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a program with the settings that it is measured with.
type server struct {
	name string
	path string
	args func(addr string) []string
	env  []string
	load load // its addr is known once the server runs
	// login, if set, gets from the running server what load.header has to carry.
	login func(addr *net.TCPAddr) (header string, err error)
}

// child is a running server.
type child struct {
	*server
	load   load
	start  time.Duration // from the exec to the end of the first 200
	cmd    *exec.Cmd
	stderr *head
}

// run starts the server on a free port and waits for its first 200. prefix, if
// any, is a command that executes the rest of its arguments.
func (s *server) run(ctx context.Context, prefix ...string) (*child, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	argv := append(append(prefix, s.path), s.args(addr.String())...)
	c := &child{server: s, load: s.load, stderr: new(head)}
	c.load.addr = addr
	c.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.cmd.Env = append([]string{}, s.env...) // defaults are measured: nothing is inherited
	c.cmd.Stderr = c.stderr                  // a pipe that is drained, as a container's log is
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for {
		if err = c.ask(); err == nil {
			c.start = time.Since(start)
			return c, nil
		}
		if time.Since(start) > patience || ctx.Err() != nil {
			c.stop()
			return nil, fmt.Errorf("%s does not answer: %w\n%s", s.name, err, c.stderr)
		}
		pause(100 * time.Microsecond)
	}
}

// ask asks for a first answer, with the credential that it takes.
func (c *child) ask() (err error) {
	if c.login != nil && c.load.header == "" {
		if c.load.header, err = c.login(c.load.addr); err != nil {
			return err
		}
	}
	_, err = c.load.once()
	return err
}

// stop ends the child without its drain.
func (c *child) stop() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// cpu is the time for which the child has been on a processor, in user and
// system mode, by the scheduler's count; that of /proc/PID/stat is in
// hundredths of a second. The threads of a Go program do not end.
func (c *child) cpu() (time.Duration, error) {
	files, err := filepath.Glob(c.proc("task/*/schedstat"))
	if err == nil && files == nil {
		err = errors.New("the kernel tells no /proc/PID/task/*/schedstat")
	}
	var sum time.Duration
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		ns, _, _ := strings.Cut(string(content), " ")
		d, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(d)
	}
	return sum, err
}

// resident is the child's resident memory in MiB.
func (c *child) resident() (float64, error) {
	content, err := os.ReadFile(c.proc("status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(content, []byte("VmRSS:"))
	number, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	kb, err := strconv.ParseFloat(string(number), 64)
	return kb / 1024, err
}

// descriptors is how many the child has open.
func (c *child) descriptors() (int, error) {
	entries, err := os.ReadDir(c.proc("fd"))
	return len(entries), err
}

func (c *child) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", c.cmd.Process.Pid, name)
}

// head keeps the first kilobyte of what is written to it, to tell why a server
// did not start.
type head struct {
	mu   sync.Mutex
	kept []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, p[:min(len(p), 1024-len(h.kept))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.kept)
}
