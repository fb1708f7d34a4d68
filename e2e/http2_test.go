//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// HTTP/2 as RFC 9113 has it, written by hand: what no client would send.
const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameData, frameHeaders, frameReset, frameSettings, framePing      = 0, 1, 3, 4, 6
	frameGoAway, frameWindowUpdate, frameContinuation                  = 7, 8, 9
	endStream, endHeaders                                         byte = 1, 4

	// fields is the header of GET /health in HPACK (RFC 7541): three fields of
	// the static table and two of its names.
	fields = "\x82\x86\x04\x07/health\x01\x01x"
)

func frame(kind, flags byte, stream uint32, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags,
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}) + payload
}

// frames reads up to the end of a connection, or until a frame of the kind
// wanted, and returns the kinds that came.
func frames(c net.Conn, until byte) (kinds []byte, err error) {
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return kinds, err
		}
		kinds = append(kinds, head[3])
		if _, err := io.CopyN(io.Discard, c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
			return kinds, err
		}
		if head[3] == until {
			return kinds, nil
		}
	}
}

// never is a kind of frame that does not exist.
const never = 255

func TestBadHTTP2IsClosed(t *testing.T) {
	i := start(t, nil)
	hello := preface + frame(frameSettings, 0, 0, "")
	request := frame(frameHeaders, endStream|endHeaders, 1, fields)
	for _, row := range []struct{ name, send string }{
		{"another preface", strings.Replace(preface, "SM", "MS", 1)},
		{"no SETTINGS first", preface + request},
		{"SETTINGS of five bytes", hello + frame(frameSettings, 0, 0, "12345")},
		{"a frame over 16 KiB", hello + frame(frameData, 0, 1, strings.Repeat("a", 17<<10))},
		{"HPACK of another planet", hello + frame(frameHeaders, endStream|endHeaders, 1, "\xff\xff\xff\xff\xff\xff\xff")},
		{"a dynamic table beyond the limit", hello + frame(frameHeaders, endStream|endHeaders, 1, "\x3f\xe1\xff\x3f"+fields)},
		{"a stream of the server's", hello + frame(frameHeaders, endStream|endHeaders, 2, fields)},
		{"a stream again", hello + frame(frameHeaders, endStream|endHeaders, 3, fields) + request},
		{"DATA for no stream", hello + frame(frameData, 0, 1, "a")},
		{"RST_STREAM for no stream", hello + frame(frameReset, 0, 1, "\x00\x00\x00\x08")},
		{"CONTINUATION of nothing", hello + frame(frameContinuation, endHeaders, 1, fields)},
		{"PING between HEADERS and CONTINUATION", hello + frame(frameHeaders, endStream, 1, fields) + frame(framePing, 0, 0, "12345678")},
		{"CONTINUATION without end", hello + frame(frameHeaders, endStream, 1, fields) + strings.Repeat(frame(frameContinuation, 0, 1, "\x00\x01a\x7e"+strings.Repeat("b", 126)), 1000)},
		{"a window of nothing", hello + frame(frameWindowUpdate, 0, 0, "\x00\x00\x00\x00")},
		{"windows beyond 31 bits", hello + strings.Repeat(frame(frameWindowUpdate, 0, 0, "\x7f\xff\xff\xff"), 2)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, i.addr)
			go io.WriteString(c, row.send)
			begun := time.Now()
			if kinds, err := frames(c, never); err == nil || time.Since(begun) > 5*time.Second {
				t.Errorf("still open after %v; frames %d", time.Since(begun), kinds)
			}
			i.intact(t)
		})
	}
}

// What RFC 7541 lets a client do before it knows better: its table has 4,096
// bytes until it has read the server's SETTINGS.
func TestTwoRequestsBeforeTheSettingsAreReadAreAnswered(t *testing.T) {
	i := start(t, nil)
	const newName, first = "\x40", 62 // a field that is put in the table; the number of the last that was
	named := func(name string) string {
		return newName + string([]byte{byte(len(name))}) + name + "\x64" + strings.Repeat("a", 100)
	}
	c := dial(t, i.addr)
	io.WriteString(c, preface+frame(frameSettings, 0, 0, "")+
		frame(frameHeaders, endStream|endHeaders, 1, fields+named("x-a")+named("x-b")+named("x-c"))+
		frame(frameHeaders, endStream|endHeaders, 3, fields+string([]byte{0x80 | first, 0x80 | first + 1, 0x80 | first + 2})))
	for n := range 2 {
		if kinds, err := frames(c, frameHeaders); err != nil || slices.Contains(kinds, frameGoAway) {
			t.Errorf("%d answers, then frames %d, %v", n, kinds, err)
		}
	}

	const requests = 20
	got := tool(t, `(\d+) succeeded`, "h2load", "-n", fmt.Sprint(requests), "-c", "1", "-m", "10",
		"-H", "x-a: "+strings.Repeat("a", 100), "-H", "x-b: "+strings.Repeat("b", 100), "http://"+i.addr+"/health")
	if got != requests {
		t.Errorf("%d of h2load's %d requests are answered", got, requests)
	}
	i.intact(t)
}

func TestHalfAnHTTP2RequestHurtsNobody(t *testing.T) {
	i := start(t, nil)
	half := frame(frameHeaders, endStream|endHeaders, 1, fields)
	half = preface + frame(frameSettings, 0, 0, "") + half[:len(half)-3]
	var slow []net.Conn
	for range 100 {
		c := dial(t, i.addr)
		io.WriteString(c, half)
		slow = append(slow, c)
	}
	for _, c := range slow { // each has been read once it has its SETTINGS acknowledged
		if kinds, err := frames(c, frameSettings); err != nil {
			t.Errorf("frames %d, %v", kinds, err)
		}
	}
	if status, _, body := curl(t, "--http2-prior-knowledge", "http://"+i.addr+"/health"); status != "HTTP/2 200" || body != healthy {
		t.Errorf("%q, body %q", status, body)
	}
	i.intact(t)
	// The rest of one, at last.
	io.WriteString(slow[0], "\x01\x01x")
	if kinds, err := frames(slow[0], frameHeaders); err != nil {
		t.Errorf("frames %d, %v", kinds, err)
	}
}

func TestAnHTTP2BodyIsNotWaitedFor(t *testing.T) {
	i := start(t, nil)
	for _, row := range []struct {
		name   string
		args   []string
		status string
	}{
		{"POST with a body", []string{"-d", "x=1"}, "HTTP/2 405"},
		{"GET with one", []string{"-X", "GET", "-d", "x=1"}, "HTTP/2 200"},
		{"POST with 500 kB", []string{"--data-binary", "@" + written(t, strings.Repeat("x", 500_000))}, "HTTP/2 405"},
	} {
		t.Run(row.name, func(t *testing.T) {
			// curl 7.88 takes a reset, even one that is no error, for a failure if
			// it comes before it has told the end of the body: now and then.
			for range 20 {
				if status, _, _ := curl(t, append(row.args, "--http2-prior-knowledge", "http://"+i.addr+"/health")...); status != row.status {
					t.Errorf("%q, want %q", status, row.status)
				}
			}
			i.intact(t)
		})
	}
	for _, row := range []struct {
		name   string
		length string // two digits, or none
		body   string
	}{
		{"a body that does not come", "10", ""},
		{"a body of unknown length that does not come", "", ""},
		// As much as a client may send before it has read the server's SETTINGS
		// (RFC 9113, section 6.9.2).
		{"a body that comes at once", "", strings.Repeat(frame(frameData, 0, 1, strings.Repeat("a", 13107)), 5)},
	} {
		t.Run(row.name, func(t *testing.T) {
			header := fields
			if row.length != "" {
				header += "\x0f\x0d\x02" + row.length // content-length is number 28 of the static table
			}
			c := dial(t, i.addr)
			begun := time.Now()
			io.WriteString(c, preface+frame(frameSettings, 0, 0, "")+frame(frameHeaders, endHeaders, 1, header)+row.body)
			kinds, err := frames(c, frameHeaders)
			if err != nil || slices.Contains(kinds, frameReset) || time.Since(begun) > 5*time.Second { // and not 10
				t.Errorf("after %v: frames %d, %v; want an answer", time.Since(begun), kinds, err)
			}
			i.intact(t)
		})
	}
}

func TestAnHTTP2HeaderOver8KiBIsRefused(t *testing.T) {
	i := start(t, nil)
	var args []string
	for n := range 13 {
		args = append(args, "-H", fmt.Sprintf("X-%d: %s", n, strings.Repeat("a", 1000)))
	}
	args = append(args, "--http2-prior-knowledge", "http://"+i.addr+"/health")
	if status, _, _ := curl(t, args...); status != "HTTP/2 431" {
		t.Errorf("%q, want 431", status)
	}
	if status, _, body := curl(t, args[12:]...); status != "HTTP/2 200" || body != healthy {
		t.Errorf("with 7 KiB: %q, body %q", status, body)
	}
	i.intact(t)
}
