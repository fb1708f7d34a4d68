//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// dial returns a connection that no read or write waits long on.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// intact fails unless the server serves on and its log shows no panic. header
// is what a locked one wants.
func (i *instance) intact(t *testing.T, header ...string) {
	t.Helper()
	got, err := (&client{addr: i.addr, tls: i.trust, fresh: true, header: strings.Join(header, "")}).get("/health")
	if err != nil || got.code != 200 || !got.own() {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
	if trace := regexp.MustCompile(`(?m)panic|goroutine \d|\.go:\d|^\t`).FindString(i.stderr.String()); trace != "" {
		t.Errorf("the log has a stack trace: %q", trace)
	}
}

// A request is whatever comes in one piece; every connection here is closed
// after the answers, and none of them takes a second.
func TestBadRequestsAreAnsweredAtOnceAndTheirConnectionClosed(t *testing.T) {
	i := start(t, nil)
	const (
		get  = "GET /health HTTP/1.1\r\nHost: x\r\n"
		post = "POST /health HTTP/1.1\r\nHost: x\r\n"
		last = "Connection: close\r\n\r\n"
		next = get + "\r\n" // as an attacker would hide it
	)
	header := func(line string, size int) string { // size counts the request line, Host and last too
		lines := strings.Repeat(line, size/len(line))
		rest := size - len(lines) - len(get+last)
		for rest < 6 {
			lines, rest = lines[len(line):], rest+len(line)
		}
		return get + lines + "X: " + strings.Repeat("a", rest-5) + "\r\n" + last
	}
	short, long := "a:b\r\n", "X: "+strings.Repeat("a", 1000)+"\r\n"
	for _, row := range []struct {
		name  string
		send  string
		codes []int
	}{
		{"a header of 8 KiB is read", header(long, 8<<10), []int{200}},
		{"of short lines too", header(short, 8<<10), []int{200}},
		{"a header over 8 KiB and the slack", header(long, 12<<10+200), []int{431}},
		{"of short lines", header(short, 12<<10+200), []int{431}},
		{"a header of a megabyte", header(long, 1<<20), []int{431}},
		{"a request line that does not end", "GET /" + strings.Repeat("a", 13<<10), []int{431}},
		{"an announced body that does not come", post + "Content-Length: 10\r\n\r\n", []int{405}},
		{"one of 10 GiB", post + "Content-Length: 10737418240\r\n\r\n", []int{405}},
		{"one in chunks", post + "Transfer-Encoding: chunked\r\n\r\n", []int{405}},
		{"one that waits to be asked for", post + "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", []int{405}},
		{"a GET with one", get + "Content-Length: 10\r\n\r\n", []int{200}},
		{"a request hidden in a body", post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(next)) + next, []int{405}},
		{"Content-Length beside Transfer-Encoding", get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next, []int{200}},
		{"the other way round", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + next, []int{405}},
		{"two lengths", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + next, []int{400}},
		{"a length of less than nothing", post + "Content-Length: -5\r\n\r\n" + next, []int{400}},
		{"a length beyond 64 bits", post + "Content-Length: 99999999999999999999\r\n\r\n" + next, []int{400}},
		{"an unknown coding", post + "Transfer-Encoding: gzip, chunked\r\n\r\n" + next, []int{501}},
		{"garbage behind good requests", next + next + next + "\x00\x01\x02 garbage\r\n\r\n" + next, []int{200, 200, 200, 400}},
		{"nothing but garbage", "\x00\x01\x02\xff\r\n\r\n" + next, []int{400}},
		{"a TLS handshake", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", []int{400}},
		{"a NUL in a header", get + "X: a\x00b\r\n\r\n" + next, []int{400}},
		{"a folded header name", get + "X : a\r\n\r\n" + next, []int{400}},
		{"two hosts", get + "Host: y\r\n\r\n" + next, []int{400}},
		{"no host", "GET /health HTTP/1.1\r\n\r\n" + next, []int{400}},
		{"a version of the future", "GET /health HTTP/3.0\r\nHost: x\r\n\r\n" + next, []int{505}},
		{"a host to connect to", "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n" + last, []int{404}},
		{"the server itself", "OPTIONS * HTTP/1.1\r\nHost: x\r\n" + last, []int{404}},
		{"an upgrade to HTTP/2", get + "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n", []int{200}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := dial(t, i.addr)
			go io.WriteString(c, row.send) // all of it may never be read
			begun := time.Now()
			r := bufio.NewReader(c)
			var codes []int
			for {
				resp, err := http.ReadResponse(r, nil)
				if err != nil { // a reset too: what is still to be sent is not waited for
					break
				}
				io.Copy(io.Discard, resp.Body)
				if codes = append(codes, resp.StatusCode); time.Since(begun) > time.Second {
					t.Errorf("answered after %v", time.Since(begun))
				}
			}
			if !slices.Equal(codes, row.codes) {
				t.Errorf("answers %d, want %d", codes, row.codes)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("closed after %v", took)
			}
			i.intact(t)
		})
	}
}

func TestASlowHeaderIsClosedAfterFiveSeconds(t *testing.T) {
	i := start(t, nil)
	for _, row := range []struct{ name, send, drip string }{
		{"nothing is sent", "", ""},
		{"half a request line", "GET /he", ""},
		{"half a header", "GET /health HTTP/1.1\r\nHost: x\r\n", ""},
		{"a byte at a time", "GET /health HTTP/1.1\r\n", "a"},
		{"a line at a time", "GET /health HTTP/1.1\r\nHost: x\r\n", "X-a: b\r\n"},
		{"half a preface of HTTP/2", preface[:16], ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, i.addr)
			begun := time.Now()
			io.WriteString(c, row.send)
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				io.Copy(io.Discard, c)
			}()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for open := true; open; {
				select {
				case <-closed:
					open = false
				case <-tick.C:
					io.WriteString(c, row.drip)
				}
			}
			if took := time.Since(begun); took < 4500*time.Millisecond || took > 8*time.Second {
				t.Errorf("closed after %v, want about 5 s", took)
			}
			i.intact(t)
		})
	}
}
