//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lockedBy starts a healthd with Basic authentication whose file holds content.
func lockedBy(t *testing.T, content string) (i *instance, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "basic")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, []string{"HEALTHD_AUTH=basic", "HEALTHD_BASIC_FILE=" + file}), file
}

// admits reports whether the credential opens the lock.
func (i *instance) admits(t *testing.T, credential string) bool {
	t.Helper()
	a, err := (&client{addr: i.addr, tls: i.trust, fresh: true, header: authorization("basic", credential)}).get("/health")
	if err != nil {
		t.Fatal(err)
	}
	return a.code == 200
}

func TestAFileSavedOnWindowsIsRead(t *testing.T) {
	first, second := newPair(), newPair()
	i, file := lockedBy(t, "\ufeff"+first+"\r\n")
	if !i.admits(t, first) {
		t.Error("the credential behind a byte order mark is refused")
	}
	if err := os.WriteFile(file, []byte("\ufeff# rotated\r\n"+second+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !i.admits(t, second) || i.admits(t, first) {
		t.Error("after the rotation not the new credential alone is admitted")
	}
	if code, line := probe(t, []string{"HEALTHD_ADDR=" + i.addr, "HEALTHD_AUTH=basic", "HEALTHD_BASIC_FILE=" + file}); code != 0 {
		t.Errorf("healthd probe: exit code %d, %q", code, line)
	}
}

func TestAFileThatNoRequestCanMatchIsRefusedAndNeverWaitedFor(t *testing.T) {
	pair := newPair()
	utf16 := "\xff\xfe"
	for _, c := range []byte(pair) {
		utf16 += string([]byte{c, 0})
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	name, secret, _ := strings.Cut(pair, ":")
	for _, row := range []struct{ name, path, says string }{
		{"UTF-16", written(t, utf16), "UTF-16"},
		{"Latin-1", written(t, pair+"\xe9"), "not UTF-8"},
		{"a lone CR", written(t, pair+"\r"+newPair()), "control character"},
		{"a zero width space", written(t, pair+"\u200b"), "invisible"},
		{"a space beside the colon", written(t, name+": "+secret), "white space beside the colon"},
		{"20,000 bytes", written(t, pair+strings.Repeat("p", 20_000)), "at most 4096"},
		{"a FIFO", fifo, "not a regular file"},
		{"a folder", t.TempDir(), "not a regular file"},
		{"a device without end", "/dev/zero", "not a regular file"},
		{"2 MiB", written(t, strings.Repeat(pair+"\n", 2<<20/len(pair))), "1 MiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			env := []string{"HEALTHD_ADDR=" + host + ":0", "HEALTHD_AUTH=basic", "HEALTHD_BASIC_FILE=" + row.path}
			for _, args := range [][]string{nil, {"probe"}} {
				p := spawn(t, nil, env, binary(), args...)
				if code := p.wait(t, patience); code != 2 || !strings.Contains(p.stderr.String(), "HEALTHD_BASIC_FILE: ") || !strings.Contains(p.stderr.String(), row.says) {
					t.Errorf("healthd %q: exit code %d, %q; want 2 and %q", args, code, p.stderr.String(), row.says)
				}
			}
			// As a rotation, it leaves the last good credential in use.
			i, file := lockedBy(t, pair)
			if err := os.Symlink(row.path, file+".new"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
			if i.admits(t, newPair()) || !i.admits(t, pair) {
				t.Error("not the last good credential alone is admitted")
			}
			eventually(t, "it is an error in the log", func() bool {
				return strings.Contains(i.stderr.String(), "level=ERROR") && strings.Contains(i.stderr.String(), row.says)
			})
			if got := strings.Count(i.stderr.String(), "level=ERROR"); got != 1 {
				t.Errorf("%d errors in the log, want one", got)
			}
			i.signal(t, syscall.SIGINT)
			if code := i.wait(t, patience); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestACertificateThatNoHandshakeCanUseIsNeverServed(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, good := newCertificate(t, key), newCertificate(t, ecdsaKey(t))
	p := spawn(t, nil, append(weak.install(t), "HEALTHD_ADDR="+host+":0"), binary())
	if code := p.wait(t, patience); code != 2 || !strings.Contains(p.stderr.String(), "P-224") {
		t.Errorf("at the start: exit code %d, %q", code, p.stderr.String())
	}
	dir := t.TempDir()
	if err := swap(dir, good.files()); err != nil {
		t.Fatal(err)
	}
	i := start(t, []string{"HEALTHD_TLS_CERT=" + dir + "/tls.crt", "HEALTHD_TLS_KEY=" + dir + "/tls.key"})
	i.trust = good.trust()
	if err := swap(dir, weak.files()); err != nil {
		t.Fatal(err)
	}
	i.intact(t) // by the last good one
	eventually(t, "it is an error in the log", func() bool { return strings.Contains(i.stderr.String(), "P-224") })

	pass := "pass:" + newKey()
	plain := written(t, good.key)
	encrypted := written(t, "")
	output(t, []string{"PASS=" + strings.TrimPrefix(pass, "pass:")}, "openssl", "pkey", "-in", plain, "-aes256", "-passout", "env:PASS", "-out", encrypted)
	p = spawn(t, nil, []string{"HEALTHD_TLS_CERT=" + written(t, good.cert), "HEALTHD_TLS_KEY=" + encrypted}, binary())
	if code := p.wait(t, patience); code != 2 || !strings.Contains(p.stderr.String(), "encrypted") || !strings.Contains(p.stderr.String(), "openssl pkey") {
		t.Errorf("an encrypted key: exit code %d, %q", code, p.stderr.String())
	}
}

// bindfs shows one folder as another until it is stopped: then every look into
// that hangs, as one into a dead network mount does.
func TestADiskThatHangsHoldsNoRequestNoHandshakeNoProbeAndNoExit(t *testing.T) {
	crt, pair, key := newCertificate(t, ecdsaKey(t)), newPair(), newKey()
	dir, mount := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{"tls.crt": crt.cert, "tls.key": crt.key, "basic": pair, "jwt": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	disk := spawn(t, nil, nil, program(t, "bindfs"), "-f", dir, mount)
	t.Cleanup(func() {
		disk.signal(t, syscall.SIGCONT)
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "it is mounted", func() bool { _, err := os.Stat(mount + "/basic"); return err == nil })
	env := []string{"HEALTHD_AUTH=jwt,basic", "HEALTHD_BASIC_FILE=" + mount + "/basic", "HEALTHD_JWT_SECRET_FILE=" + mount + "/jwt",
		"HEALTHD_TLS_CERT=" + mount + "/tls.crt", "HEALTHD_TLS_KEY=" + mount + "/tls.key", "HEALTHD_DRAIN=100ms"}
	i := start(t, env)
	i.trust = crt.trust()
	if !i.admits(t, pair) {
		t.Fatal("refused before the disk hangs")
	}
	disk.signal(t, syscall.SIGSTOP)
	ask := func(method, path, header string, code int) {
		t.Helper()
		begun := time.Now()
		a, err := (&client{addr: i.addr, tls: i.trust, fresh: true, header: header}).ask(method, path)
		if took := time.Since(begun); err != nil || a.code != code || took > time.Second {
			t.Errorf("%s %s: %+v, %v after %v; want %d at once", method, path, a, err, took, code)
		}
	}
	for range 3 {
		ask("GET", "/health", authorization("basic", pair), 200)
		ask("GET", "/health", authorization("jwt", key), 200)
		ask("GET", "/health", authorization("basic", newPair()), 401)
		ask("POST", "/token", authorization("basic", pair), 200)
	}
	begun := time.Now()
	if code, line := probe(t, append(env, "HEALTHD_ADDR="+i.addr, "HEALTHD_TIMEOUT=500ms")); code != 1 || time.Since(begun) > 5*time.Second {
		t.Errorf("healthd probe: exit code %d, %q after %v", code, line, time.Since(begun))
	}
	i.signal(t, syscall.SIGHUP)
	i.signal(t, syscall.SIGTERM)
	if code := i.wait(t, 10*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTheLogThatNobodyReadsHoldsNobody(t *testing.T) {
	target, err := net.Listen("tcp", targetHost+":0")
	if err != nil {
		t.Fatal(err)
	}
	addr := target.Addr().String()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := spawn(t, []*os.File{w}, []string{"HEALTHD_ADDR=" + host + ":0", "HEALTHD_VERBOSE=true", "HEALTHD_DRAIN=2s", "HEALTHD_AUTH=basic",
		"HEALTHD_BASIC=" + newPair(), "HEALTHD_INTERVAL=100ms", "HEALTHD_TARGETS=tcp://" + addr}, "/bin/sh", "-c", `exec "$0" 2>&3`, binary())
	w.Close()
	buf := make([]byte, 4096)
	n, err := r.Read(buf) // its first line, and then nobody reads
	_, listening, found := strings.Cut(string(buf[:n]), "msg=listening addr=")
	if err != nil || !found {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	i := &instance{process: p, addr: strings.Fields(listening)[0]}
	credential := p.Env[slices.IndexFunc(p.Env, func(s string) bool { return strings.HasPrefix(s, "HEALTHD_BASIC=") })][len("HEALTHD_BASIC="):]
	header := authorization("basic", credential)
	for range 3000 { // more than a pipe and a queue hold
		if a, err := (&client{addr: i.addr, fresh: true}).get("/health"); err != nil || a.code != 401 {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	tells(t, i.addr, header, healthy)
	target.Close()
	tells(t, i.addr, header, unhealthy)
	if target, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	tells(t, i.addr, header, healthy)
	i.signal(t, syscall.SIGTERM)
	tells(t, i.addr, header, draining)
	if code := i.untilGone(t); code != 0 { // the log has half a second at the end
		t.Errorf("exit code %d", code)
	}
}
