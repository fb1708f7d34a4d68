//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sClient shakes hands with openssl s_client, which trusts the certificate of
// the file ca and no other, and returns what it prints.
func sClient(t *testing.T, i *instance, ca string, args ...string) string {
	t.Helper()
	p := spawn(t, nil, nil, program(t, "openssl"), append([]string{"s_client", "-connect", i.addr, "-showcerts",
		"-CAfile", ca, "-verify_return_error", "-verify_ip", host}, args...)...)
	p.wait(t, patience)
	return p.stdout.String() + p.stderr.String()
}

func TestOpenSSLAgreesOnNothingOld(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	crt := newCertificate(t, key) // the suites that are refused need an RSA key
	i, ca := start(t, crt.install(t)), written(t, crt.cert)
	const (
		wrongVersion = "SSL alert number 70" // protocol_version (RFC 8446, section 6.2)
		noSuite      = "SSL alert number 40" // handshake_failure
		old          = "@SECLEVEL=0"         // lets the client itself offer what is refused
	)
	for _, row := range []struct {
		name string
		args []string
		want []string // in what it prints
	}{
		{"TLS 1.3 with HTTP/2", []string{"-tls1_3", "-alpn", "h2,http/1.1"}, []string{"New, TLSv1.3", "ALPN protocol: h2\n", "Verify return code: 0"}},
		{"TLS 1.2 with HTTP/2", []string{"-tls1_2", "-alpn", "h2,http/1.1"}, []string{"New, TLSv1.2", "ALPN protocol: h2\n", "Verify return code: 0"}},
		{"HTTP/1.1 for those who know no other", []string{"-alpn", "http/1.1"}, []string{"ALPN protocol: http/1.1\n"}},
		{"HTTP/1.0 for those who know no other", []string{"-alpn", "http/1.0"}, []string{"New, TLSv1.3", "Verify return code: 0"}},
		{"no ALPN at all", nil, []string{"New, TLSv1.3", "No ALPN negotiated\n", "Verify return code: 0"}},
		{"ECDHE with AES-128-GCM", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}, []string{"Cipher is ECDHE-RSA-AES128-GCM-SHA256\n"}},
		{"ECDHE with ChaCha20", []string{"-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"}, []string{"Cipher is ECDHE-RSA-CHACHA20-POLY1305\n"}},
		{"TLS 1.1 is refused", []string{"-tls1_1", "-cipher", "DEFAULT" + old}, []string{wrongVersion}},
		{"TLS 1.0 is refused", []string{"-tls1", "-cipher", "DEFAULT" + old}, []string{wrongVersion}},
		{"CBC is refused", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"}, []string{noSuite}},
		{"RSA key exchange is refused", []string{"-tls1_2", "-cipher", "AES128-GCM-SHA256"}, []string{noSuite}},
		{"whatever is not ECDHE is refused", []string{"-tls1_2", "-cipher", "ALL:COMPLEMENTOFALL:!kECDHE" + old}, []string{noSuite}},
		{"whatever is not AEAD is refused", []string{"-tls1_2", "-cipher", "ALL:COMPLEMENTOFALL:!AESGCM:!CHACHA20" + old}, []string{noSuite}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := sClient(t, i, ca, row.args...)
			for _, want := range row.want {
				if !strings.Contains(got, want) {
					t.Errorf("s_client prints no %q:\n%s", want, got)
				}
			}
		})
	}
}

func TestCurlIsAnsweredOverTLSWhateverItOffers(t *testing.T) {
	crt := newCertificate(t, ecdsaKey(t))
	i, ca := start(t, crt.install(t)), written(t, crt.cert)
	for _, row := range []struct {
		args   []string
		status string
	}{
		{[]string{"--http1.0"}, "HTTP/1.0 200 OK"}, // curl 7.88 offers http/1.0 alone
		{[]string{"--http1.1"}, "HTTP/1.1 200 OK"},
		{[]string{"--http2"}, "HTTP/2 200"},
		{[]string{"--no-alpn"}, "HTTP/1.1 200 OK"},
		{[]string{"--no-alpn", "--http1.0"}, "HTTP/1.0 200 OK"},
		{[]string{"--tls-max", "1.2", "--http1.0"}, "HTTP/1.0 200 OK"},
		{nil, "HTTP/2 200"},
	} {
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			status, _, body := curl(t, append(row.args, "--cacert", ca, "https://"+i.addr+"/health")...)
			if status != row.status || body != healthy {
				t.Errorf("%q, body %q, want %q", status, body, row.status)
			}
		})
	}
}

// shakeHands offers these protocols, and trusts any certificate.
func shakeHands(t *testing.T, c net.Conn, offers ...string) *tls.Conn {
	t.Helper()
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: offers})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return secure
}

// Balancers that check a port by TCP alone, or by a handshake, come every second or so.
func TestACheckThatConnectsAndClosesIsNoNews(t *testing.T) {
	overTLS := newCertificate(t, ecdsaKey(t)).install(t)
	for _, row := range []struct {
		name   string
		env    []string
		offers []string // in a handshake
	}{
		{"plain", nil, nil}, {"TCP alone", overTLS, nil},
		{"HTTP/1 over TLS", overTLS, []string{"http/1.1"}}, {"HTTP/2 over TLS", overTLS, []string{"h2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			i := start(t, row.env, "-drain", "0")
			for _, reset := range []bool{false, true} {
				for range 20 {
					c := dial(t, i.addr)
					if row.offers != nil {
						shakeHands(t, c, row.offers...)
					}
					if reset {
						c.(*net.TCPConn).SetLinger(0)
					}
					c.Close()
				}
			}
			i.signal(t, syscall.SIGTERM) // what was accepted is seen to before it ends
			i.wait(t, patience)
			for line := range strings.Lines(i.stderr.String()) {
				if !strings.Contains(line, "level=INFO") {
					t.Errorf("the log tells of it: %s", line)
				}
			}
		})
	}
}

func TestAFailedHandshakeIsTold(t *testing.T) {
	i := start(t, newCertificate(t, ecdsaKey(t)).install(t))
	status, _, body := curl(t, "http://"+i.addr+"/health")
	if status != "HTTP/1.0 400 Bad Request" || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("over plain HTTP: %q, %q", status, body)
	}
	if err := tls.Client(dial(t, i.addr), &tls.Config{ServerName: "localhost"}).Handshake(); err == nil {
		t.Error("a client that trusts no such certificate is content")
	}
	sClient(t, i, written(t, newCertificate(t, ecdsaKey(t)).cert), "-tls1_3") // another's: OpenSSL says so in clear text
	for _, want := range []string{"does not look like a TLS handshake", "bad certificate", "bad record MAC"} {
		eventually(t, "the log tells of it: "+want, func() bool {
			return regexp.MustCompile(`level=WARN msg="TLS handshake failed" err=.*` + want).MatchString(i.stderr.String())
		})
	}
}

// net/http would log it, as a bad greeting.
func TestNothingOfWhatAClientSendsInPlaceOfHTTP2IsLogged(t *testing.T) {
	i := start(t, newCertificate(t, ecdsaKey(t)).install(t))
	for _, sent := range []string{"GET /?k=s3cret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "s3cret:s3cret\r\n\r\n"} {
		c := shakeHands(t, dial(t, i.addr), "h2")
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, c)
	}
	i.signal(t, syscall.SIGINT)
	i.wait(t, patience)
	if log := i.stderr.String(); strings.Contains(log, "s3cret") {
		t.Errorf("the log holds %s", log)
	}
}

// They may keep a connection open in stock.
func TestSIGINTWaitsForNoClientThatHasOnlyShakenHands(t *testing.T) {
	for _, offer := range []string{"h2", "http/1.1"} {
		i := start(t, newCertificate(t, ecdsaKey(t)).install(t), "-drain", "1m")
		shakeHands(t, dial(t, i.addr), offer)
		begun := time.Now()
		i.signal(t, syscall.SIGINT)
		if code := i.wait(t, patience); code != 0 {
			t.Errorf("%s: exit code %d", offer, code)
		}
		if took := time.Since(begun); took > 3*time.Second { // and not the 5 s of a header
			t.Errorf("%s: gone after %v", offer, took)
		}
	}
}

func TestANewCertificateIsServedAtOnceAndCutsNoConnection(t *testing.T) {
	dir := t.TempDir()
	place := func(files map[string]string) {
		t.Helper()
		if err := swap(dir, files); err != nil {
			t.Fatal(err)
		}
	}
	first, second := newCertificate(t, ecdsaKey(t)), newCertificate(t, ecdsaKey(t))
	place(first.files())
	i := start(t, []string{"HEALTHD_TLS_CERT=" + filepath.Join(dir, "tls.crt"), "HEALTHD_TLS_KEY=" + filepath.Join(dir, "tls.key")})

	kept := &client{addr: i.addr, tls: first.trust()}
	t.Cleanup(kept.close)
	check := func(when string, want certificate) {
		t.Helper()
		printed := sClient(t, i, written(t, want.cert))
		block, _ := pem.Decode([]byte(printed))
		if block == nil || string(pem.EncodeToMemory(block)) != want.cert {
			t.Errorf("%s: s_client is shown another certificate:\n%s", when, printed)
		}
		before := kept.conn
		got, err := kept.get("/health")
		if err != nil || got.code != http.StatusOK || got.last || before != nil && before != kept.conn {
			t.Errorf("%s: the open connection: %+v, %v", when, got, err)
		}
	}
	check("at start", first)
	place(second.files())
	check("after a swap", second)
	place(map[string]string{"tls.crt": first.cert, "tls.key": second.key})
	check("after a swap for a key that does not fit", second)
	place(map[string]string{"tls.crt": "", "tls.key": ""})
	check("after a swap for nothing", second)
	place(first.files())
	check("after a swap for what fits", first)
	i.signal(t, syscall.SIGINT)
	i.wait(t, patience)
	if got := strings.Count(i.stderr.String(), "level=ERROR"); got != 2 {
		t.Errorf("%d errors are logged, want one for each bad pair", got)
	}
}
