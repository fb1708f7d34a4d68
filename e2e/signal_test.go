//go:build e2e

package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drains waits until the instance has said that it does.
func (i *instance) drains(t *testing.T) {
	t.Helper()
	eventually(t, "it drains", func() bool { return strings.Contains(i.stderr.String(), "msg=draining") })
}

// Heroku and others send SIGTERM to every process, and then again.
func TestMoreSIGTERMsChangeNothingOfADrain(t *testing.T) {
	const drain = time.Second
	i := start(t, nil, "-drain", drain.String())
	begun := time.Now()
	i.signal(t, syscall.SIGTERM)
	i.drains(t)
	for range 3 {
		i.signal(t, syscall.SIGTERM)
		if got := get(t, i.addr); got.code != 503 || got.body != draining {
			t.Errorf("answer %+v", got)
		}
	}
	code := i.wait(t, patience)
	if took := time.Since(begun); code != 0 || took < drain {
		t.Errorf("exit code %d after %v, want 0 after %v", code, took, drain)
	}
}

// untilGone sends SIGTERM again and again, and returns the exit code.
func (i *instance) untilGone(t *testing.T) int {
	t.Helper()
	for late, gone := time.Now().Add(patience), false; !gone && time.Now().Before(late); {
		i.Process.Signal(syscall.SIGTERM)
		select {
		case <-i.exited:
			gone = true
		case <-time.After(time.Millisecond):
		}
	}
	return i.wait(t, patience)
}

func TestSIGTERMsUntilItIsGoneAreOne(t *testing.T) {
	for range 10 {
		if code := start(t, nil, "-drain", "50ms").untilGone(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	}
}

func TestSIGINTEndsADrainAtOnce(t *testing.T) {
	for _, first := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(first.String(), func(t *testing.T) {
			i := start(t, nil, "-drain", "1m")
			// A request on its way, which the first signal alone would have it wait for.
			c := dial(t, i.addr)
			if _, err := c.Write([]byte("GET /health HTTP/1.1\r\n")); err != nil {
				t.Fatal(err)
			}
			get(t, i.addr)
			i.signal(t, first)
			i.drains(t)
			for range 50 { // which may not hide it
				i.signal(t, syscall.SIGTERM)
			}
			begun := time.Now()
			i.signal(t, syscall.SIGINT)
			i.wait(t, patience)
			if took := time.Since(begun); took > 3*time.Second { // and not the 5 s of a header
				t.Errorf("gone after %v", took)
			}
		})
	}
}

// Those who renew a certificate, or rotate a key, send SIGHUP.
func TestSIGHUPRereadsFilesAtOnceAndEndsNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "credentials")
	place := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	place(newPair())
	i := start(t, []string{"HEALTHD_AUTH=basic", "HEALTHD_BASIC_FILE=" + file}, "-drain", "1m")
	errors := func() int { return strings.Count(i.stderr.String(), "level=ERROR") }
	hangUp := func() {
		t.Helper()
		// A bad file is told of when it is read: with no signal, after some seconds.
		before := errors()
		place("of no form " + newKey())
		begun := time.Now()
		i.signal(t, syscall.SIGHUP)
		eventually(t, "the file is read", func() bool { return errors() > before })
		if took := time.Since(begun); took > time.Second {
			t.Errorf("read after %v", took)
		}
	}
	for range 3 {
		hangUp()
	}
	next := newPair()
	place(next)
	i.signal(t, syscall.SIGHUP)
	eventually(t, "the new credential is admitted", func() bool {
		a, err := (&client{addr: i.addr, fresh: true, header: authorization("basic", next)}).get("/health")
		return err == nil && a.code == 200
	})
	i.signal(t, syscall.SIGTERM)
	i.drains(t)
	hangUp()
	a, err := (&client{addr: i.addr, fresh: true, header: authorization("basic", next)}).get("/health")
	if err != nil || a.code != 503 {
		t.Errorf("while it drains: %+v, %v", a, err)
	}
}

// As "healthd 2>&1 | head -1" has it, and a log collector that is gone.
func TestALogWhoseReaderIsGoneEndsNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	const drain = 2 * time.Second
	key := newPair()
	env := []string{"HEALTHD_ADDR=" + host + ":0", "HEALTHD_AUTH=basic", "HEALTHD_BASIC=" + key, "HEALTHD_DRAIN=" + drain.String()}
	i := &instance{process: spawn(t, []*os.File{w}, env, "/bin/sh", "-c", `exec "$0" 2>&3 3>&-`, binary())}
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	_, addr, found := strings.Cut(strings.TrimSpace(line), "msg=listening addr=")
	if r.Close(); err != nil || !found {
		t.Fatalf("the log begins with %q, %v", line, err)
	}
	i.addr = addr
	for range 100 {
		for header, code := range map[string]int{"": 401, authorization("basic", key): 200} {
			if a, err := (&client{addr: i.addr, fresh: true, header: header}).get("/health"); err != nil || a.code != code {
				t.Fatalf("%+v, %v, want %d", a, err, code)
			}
		}
	}
	begun := time.Now()
	i.signal(t, syscall.SIGTERM)
	eventually(t, "it drains", func() bool {
		a, err := (&client{addr: i.addr, fresh: true, header: authorization("basic", key)}).get("/health")
		return err == nil && a.code == 503
	})
	code := i.wait(t, patience)
	if took := time.Since(begun); code != 0 || took < drain || took > drain+10*time.Second {
		t.Errorf("exit code %d after %v, want 0 after %v", code, took, drain)
	}
}
