//go:build linux

package bench

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// client is how a server is asked: with fixed bytes over plain TCP or TLS.
// net/http's client would take more of the machine than the servers do.
type client struct {
	addr   string
	header string      // lines with the credential, if any
	tls    *tls.Config // nil is plain TCP
}

func (c client) dial() (net.Conn, error) {
	conn, err := net.Dial("tcp", c.addr)
	if err == nil && c.tls != nil {
		conn = tls.Client(conn, c.tls)
	}
	return conn, err
}

// fresh asks over a connection of its own, as the kubelet does. The server
// closes first: TIME_WAIT is then on its side, and no flood of probes uses up
// the client's ports.
func (c client) fresh() error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.ask(conn, "close"); err != nil {
		return err
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("after the answer: %d bytes, %v", n, err)
	}
	return nil
}

func (c client) ask(conn net.Conn, connection string) error {
	conn.SetDeadline(time.Now().Add(patience))
	_, err := conn.Write([]byte("GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n" +
		c.header + "Connection: " + connection + "\r\n\r\n"))
	if err != nil {
		return err
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer) // all of it: net/http writes a short answer at once
	answer = answer[:n]
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer, []byte(`{"status":"healthy"}`)) {
		return fmt.Errorf("not a healthy answer: %q, %v", answer, err)
	}
	return nil
}

// load is clients that ask at once, over a fresh connection each time or over one
// that is kept. They ask without a pause or, all together, once in every. That
// rate is kept when the server is slow, as by many watchers that know nothing of
// each other, until all clients wait.
type load struct {
	clients int
	every   time.Duration
	kept    bool
}

// run asks as long as b.Loop wants, and returns how long each answer took.
func (l load) run(b *testing.B, c client) []time.Duration {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex // b.Loop is not for several goroutines
		more = true
		took = make([][]time.Duration, l.clients)
		tick = time.NewTicker(max(l.every, 1))
	)
	defer tick.Stop()
	next := func() bool {
		mu.Lock()
		defer mu.Unlock()
		if l.every > 0 {
			<-tick.C
		}
		more = more && !b.Failed() && b.Loop()
		return more
	}
	for i := range l.clients {
		ask := c.fresh
		if l.kept {
			conn, err := c.dial()
			check(b, err)
			defer conn.Close()
			ask = func() error { return c.ask(conn, "keep-alive") }
		}
		all.Go(func() {
			for next() {
				begin := time.Now()
				if err := ask(); err != nil {
					b.Error(err)
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	all.Wait()
	return slices.Concat(took...)
}
