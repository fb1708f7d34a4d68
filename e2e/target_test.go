//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	unhealthy = `{"status":"unhealthy"}`
	starting  = `{"status":"starting"}`
	// targetHost is where the programs listen that healthd speaks for. Nothing
	// else asks the kernel for a port there, so theirs stay free while they are
	// stopped.
	targetHost = "127.0.0.3"
)

// freePort chooses a port for a program that takes no listening descriptor.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", targetHost+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// publicDir is a directory with a short name, for a Unix socket in it, that
// other users reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "healthd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// neighbour is a program that healthd speaks for.
type neighbour struct {
	targets []string
	command []string
	stop    syscall.Signal // what ends it in good order
}

// start starts it. It is stopped in good order at the end of the test.
func (n neighbour) start(t *testing.T) *process {
	t.Helper()
	p := spawn(t, nil, nil, program(t, n.command[0]), n.command[1:]...)
	t.Cleanup(func() { n.end(t, p) })
	return p
}

func (n neighbour) end(t *testing.T, p *process) {
	t.Helper()
	select {
	case <-p.exited:
		return
	default:
	}
	p.signal(t, n.stop)
	p.wait(t, patience)
}

// postgres makes a cluster of its own. PostgreSQL refuses to run as root.
func postgres(t *testing.T) neighbour {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	owner, err := user.Lookup("postgres")
	if len(found) == 0 || err != nil {
		t.Fatal("postgres is missing: apt-get install postgresql")
	}
	bin := filepath.Dir(found[0])
	dir, port := publicDir(t), freePort(t)
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	asOwner := []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=TERM", "--"}
	output(t, nil, asOwner[0], append(asOwner[1:], bin+"/initdb", "-D", dir+"/data", "--no-sync", "--auth=trust", "--locale=C")...)
	return neighbour{
		targets: []string{"tcp://" + targetHost + ":" + port, "unix://" + dir + "/.s.PGSQL." + port},
		command: append(asOwner, bin+"/postgres", "-D", dir+"/data", "-h", targetHost, "-p", port, "-k", dir, "-F"),
		stop:    syscall.SIGINT, // "fast": it waits for no client
	}
}

func redis(t *testing.T) neighbour {
	t.Helper()
	dir, port := publicDir(t), freePort(t)
	return neighbour{
		targets: []string{"tcp://" + targetHost + ":" + port, "unix://" + dir + "/redis.sock"},
		command: []string{"redis-server", "--bind", targetHost, "--port", port, "--unixsocket", dir + "/redis.sock", "--dir", dir, "--save", ""},
		stop:    syscall.SIGTERM,
	}
}

func nginx(t *testing.T) neighbour {
	t.Helper()
	dir, port := publicDir(t), freePort(t)
	config := fmt.Sprintf(`
		daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr;
		events {}
		http {
			access_log off;
			client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
			uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
			server {
				listen %[2]s:%[3]s; listen unix:%[1]s/nginx.sock;
				location = /ready { return 204; }
				location = /moved { return 301 /nowhere; }
			}
		}`, dir, targetHost, port)
	if err := os.WriteFile(dir+"/nginx.conf", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	base := "http://" + targetHost + ":" + port
	return neighbour{
		targets: []string{base + "/ready", base + "/moved", "unix://" + dir + "/nginx.sock"},
		command: []string{"nginx", "-c", dir + "/nginx.conf", "-e", "stderr"},
		stop:    syscall.SIGQUIT,
	}
}

// said counts the lines of the log that tell that a target is up, or down.
func (i *instance) said(target, state string) (n int) {
	for line := range strings.Lines(i.stderr.String()) {
		if strings.Contains(line, `msg="target is `+state+`" target=`+target) && (state == "up" || strings.Contains(line, " reason=")) {
			n++
		}
	}
	return n
}

// tells fails unless every client gets this status, and no word more.
func (i *instance) tells(t *testing.T, code int, body string) {
	t.Helper()
	status, header, got := curl(t, "http://"+i.addr+"/health")
	names := slices.Sorted(maps.Keys(header))
	names = slices.DeleteFunc(names, func(name string) bool { return name == "Connection" }) // while draining
	if status != fmt.Sprintf("HTTP/1.1 %d %s", code, http.StatusText(code)) || got != body ||
		!slices.Equal(names, []string{"Cache-Control", "Content-Length", "Content-Type", "Date"}) {
		t.Errorf("%q, header %q, body %q; want %d and %s alone", status, header, got, code, body)
	}
	exit := 1
	if code == 200 {
		exit = 0
	}
	if got, line := probe(t, []string{"HEALTHD_ADDR=" + i.addr}); got != exit || line != body+"\n" {
		t.Errorf("healthd probe: exit code %d and %q; want %d and the body", got, line, exit)
	}
}

func TestRealTargetsTakeTheirInstanceOutOfRotationAndBackIn(t *testing.T) {
	for name, neighbour := range map[string]func(*testing.T) neighbour{"PostgreSQL": postgres, "Redis": redis, "nginx": nginx} {
		t.Run(name, func(t *testing.T) {
			target := neighbour(t)
			speaking := start(t, []string{"HEALTHD_TARGETS=" + strings.Join(target.targets, ",")}, "-interval", "200ms", "-drain", "1m")
			other := start(t, nil)
			front, state := haproxy(t, [2]string{speaking.addr, other.addr})
			seen := func(want string) {
				t.Helper()
				eventually(t, "HAProxy sees it "+want, func() bool { return state(speaking.addr) == want && state(other.addr) == up })
				if got := get(t, front); got.code != 200 || !got.own() {
					t.Errorf("through HAProxy: %+v", got)
				}
			}
			logged := func(state string, times int) {
				t.Helper()
				for _, one := range target.targets {
					eventually(t, "the log tells that "+one+" is "+state, func() bool { return speaking.said(one, state) >= times })
					if got := speaking.said(one, state); got != times {
						t.Errorf("%d lines tell that %s is %s, want %d", got, one, state, times)
					}
				}
			}
			seen(down)
			for round := range 2 {
				logged("down", round+1)
				speaking.tells(t, 503, unhealthy)
				running := target.start(t)
				seen(up)
				logged("up", round+1)
				speaking.tells(t, 200, healthy)
				target.end(t, running)
				seen(down)
			}
			logged("down", 3)

			speaking.signal(t, syscall.SIGTERM)
			eventually(t, "it says that it drains", func() bool { return strings.Contains(speaking.stderr.String(), "msg=draining") })
			speaking.tells(t, 503, draining)
			target.start(t)
			logged("up", 3) // it watches on, and still
			speaking.tells(t, 503, draining)
		})
	}
}

// stalled is a TCP target whose backlog is full, so that a connection is
// neither accepted nor refused until relieve is called.
func stalled(t *testing.T) (target string, relieve func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "stalled")
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 3}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			break // full
		}
		t.Cleanup(func() { c.Close() })
	}
	return "tcp://" + l.Addr().String(), func() {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
}

// hanging is an HTTP target that answers nothing until relieve is called.
func hanging(t *testing.T) (target string, relieve func()) {
	t.Helper()
	relieved := make(chan struct{})
	l, err := net.Listen("tcp", targetHost+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-relieved:
		case <-r.Context().Done():
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String() + "/", func() { close(relieved) }
}

func TestStatusIsStartingUntilEveryTargetHasBeenChecked(t *testing.T) {
	for name, target := range map[string]func(*testing.T) (string, func()){
		"a TCP target that accepts nothing yet": stalled,
		"an HTTP target that hangs":             hanging,
	} {
		t.Run(name, func(t *testing.T) {
			url, relieve := target(t)
			absent := "tcp://" + targetHost + ":" + freePort(t)
			// No second check comes to the rescue.
			args := []string{"-timeout", "1m", "-interval", "1h", "-drain", "1m", "-target", url}
			alone, leaving := start(t, nil, args...), start(t, nil, args...)
			beside := start(t, nil, append(args, "-target", absent)...)

			alone.tells(t, 503, starting)
			eventually(t, "the absent one is found down", func() bool { return beside.said(absent, "down") == 1 })
			beside.tells(t, 503, unhealthy) // which says more than starting
			leaving.signal(t, syscall.SIGTERM)
			eventually(t, "it says that it drains", func() bool { return strings.Contains(leaving.stderr.String(), "msg=draining") })
			leaving.tells(t, 503, draining)
			alone.tells(t, 503, starting)

			relieve()
			eventually(t, "the first check is good", func() bool { return alone.said(url, "up") == 1 })
			alone.tells(t, 200, healthy)
			eventually(t, "the same beside the absent one", func() bool { return beside.said(url, "up") == 1 })
			beside.tells(t, 503, unhealthy)
		})
	}
}
