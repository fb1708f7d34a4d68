//go:build e2e

package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	healthy  = `{"status":"healthy"}`
	draining = `{"status":"draining"}`
)

// client speaks HTTP/1.1 over one connection at a time. Unlike net/http's it
// never sends a request twice: what is lost is seen.
type client struct {
	addr   string      // host:port, or the path of a Unix socket
	fresh  bool        // a connection for every request
	tls    *tls.Config // none is plain TCP
	header string      // more lines of the header, each with its CRLF
	conn   net.Conn
	r      *bufio.Reader
}

type answer struct {
	code        int
	contentType string
	body        string
	last        bool // it said "Connection: close"
}

// own reports whether healthd itself gave this answer for /health, and not a
// balancer in its place.
func (a answer) own() bool {
	return a.contentType == "application/json" &&
		(a.code == http.StatusOK && a.body == healthy || a.code == http.StatusServiceUnavailable && a.body == draining)
}

func (c *client) get(path string) (answer, error) { return c.ask("GET", path) }

// ask sends one request, on a new connection if there is none to use again.
func (c *client) ask(method, path string) (a answer, err error) {
	if c.conn == nil {
		network := "tcp"
		if strings.HasPrefix(c.addr, "/") {
			network = "unix"
		}
		if c.conn, err = net.DialTimeout(network, c.addr, patience); err != nil {
			c.conn = nil
			return a, err
		}
		if c.tls != nil {
			c.conn = tls.Client(c.conn, c.tls)
		}
		c.r = bufio.NewReader(c.conn)
	}
	defer func() {
		if err != nil || a.last || c.fresh {
			c.close()
		}
	}()
	c.conn.SetDeadline(time.Now().Add(patience))
	header := c.header
	if method == "POST" {
		header += "Content-Length: 0\r\n"
	}
	if _, err := fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, path, header); err != nil {
		return a, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return a, err
	}
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(body), resp.Close}, err
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// get asks /health once, on a connection of its own.
func get(t *testing.T, addr string) answer {
	t.Helper()
	a, err := (&client{addr: addr, fresh: true}).get("/health")
	if err != nil {
		t.Fatal(err)
	}
	return a
}
