//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"go/build"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// server is a program, the settings to measure, and what a client then needs.
type server struct {
	name, path string
	env        []string
	header     string // lines with the credential, if any
	dial       func(network, addr string) (net.Conn, error)
}

func (s server) with(env ...string) server {
	s.env = slices.Concat(s.env, env)
	return s
}

// locked has a secret that fits every method: a name and its password, or a key.
func (s server) locked(method, variable string) server {
	name, password := rand.Text(), rand.Text()
	secret := name + ":" + password
	switch method {
	case "basic":
		s.header = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(secret)) + "\r\n"
	case "aksk":
		s.header = "X-Access-Key: " + name + "\r\nX-Secret-Key: " + password + "\r\n"
	case "jwt": // as POST /token makes it
		encode, now := base64.RawURLEncoding.EncodeToString, time.Now().Unix()
		claims := fmt.Appendf(nil, `{"exp":%d,"iat":%d,"sub":%q}`, now+1800, now, name)
		token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(token))
		s.header = "Authorization: Bearer " + token + "." + encode(mac.Sum(nil)) + "\r\n"
	}
	return s.with("HEALTHD_AUTH="+method, variable+"="+secret)
}

// tls has a P-256 key. As the kubelet, the client verifies nothing and resumes no
// session: every handshake is a full one.
func (s server) tls(b *testing.B) server {
	dir := b.TempDir()
	goCommand(b, "run", "-C", dir, build.Default.GOROOT+"/src/crypto/tls/generate_cert.go", "-ecdsa-curve", "P256", "-host", "localhost")
	s.dial = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).Dial
	return s.with("HEALTHD_TLS_CERT="+dir+"/cert.pem", "HEALTHD_TLS_KEY="+dir+"/key.pem")
}

func goCommand(b *testing.B, args ...string) {
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		b.Fatalf("go %q: %v\n%s", args, err, out)
	}
}

// child is a running server.
type child struct {
	server
	addr    string
	pid     int
	started time.Duration // from the exec to the end of the first 200
	stop    func()        // at once, without a drain
}

// start runs the server until its stop or the end of b.
func start(b *testing.B, s server) *child {
	cmd := exec.Command(s.path)
	cmd.Env = append(s.env, "HEALTHD_ADDR=127.0.0.1:0") // defaults are measured: nothing is inherited
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	check(b, err)
	begin := time.Now()
	check(b, cmd.Start())
	var reading sync.WaitGroup
	c := &child{server: s, pid: cmd.Process.Pid}
	c.stop = func() { cmd.Process.Kill(); reading.Wait(); cmd.Wait() }
	b.Cleanup(c.stop)
	for lines, said := bufio.NewScanner(log), ""; c.addr == ""; said = lines.Text() {
		if !lines.Scan() {
			b.Fatalf("%s does not listen: %s", s.path, said)
		}
		_, rest, _ := strings.Cut(lines.Text(), "msg=listening addr=")
		c.addr, _, _ = strings.Cut(rest, " ")
	}
	reading.Go(func() { io.Copy(io.Discard, log) }) // as a container's log is read
	err = c.fresh()
	for err != nil && time.Since(begin) < 10*time.Second { // 503 until the targets have been checked
		err = c.fresh()
	}
	check(b, err)
	c.started = time.Since(begin)
	return c
}

// fresh asks over a connection of its own, as the kubelet does. The server
// closes first: TIME_WAIT is then on its side, and no flood of probes uses up
// the client's ports.
func (c *child) fresh() error {
	conn, err := c.dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = c.ask(conn, "close")
	conn.Read(make([]byte, 1)) // until the server has closed
	return err
}

// ask sends fixed bytes: net/http's client would take more of the machine than a server.
func (c *child) ask(conn net.Conn, connection string) error {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n%sConnection: %s\r\n\r\n", c.header, connection)
	answer := make([]byte, 1024) // holds all: net/http writes a short answer at once
	n, err := conn.Read(answer)
	if !bytes.HasSuffix(answer[:n], []byte(`{"status":"healthy"}`)) { // which no status but 200 has
		return fmt.Errorf("not a healthy answer: %q, %v", answer[:n], err)
	}
	return nil
}

// cpu is the child's user and system time so far, by the clock that
// clock_getcpuclockid(3) tells: /proc is as coarse, or as late, as a tick.
func (c *child) cpu(b *testing.B) time.Duration {
	const sched = 2 // CPUCLOCK_SCHED
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^c.pid<<3|sched), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		b.Fatal(errno)
	}
	return time.Duration(t.Nano())
}
