//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// The load generator: fixed requests over plain TCP or TLS. net/http's client
// would take more of the machine than the servers that are measured.
//
// The server closes first, so that TIME_WAIT is on its side of a connection
// and the client's ports are free at once: no flood of probes exhausts them.

// many is how many clients ask at once when they ask flat out: enough that the
// server is seldom idle, few enough that no queue forms.
const many = 4

// patience bounds everything that is done with one connection.
const patience = 10 * time.Second

const body = `{"status":"healthy"}`

// load is what is asked, and of whom.
type load struct {
	addr   *net.TCPAddr
	header string      // lines with the credential, if any
	tls    *tls.Config // nil is plain TCP
}

func (l load) request(connection string) []byte {
	return []byte("GET /health HTTP/1.1\r\nHost: " + l.addr.String() +
		"\r\nUser-Agent: bench\r\n" + l.header + "Connection: " + connection + "\r\n\r\n")
}

func (l load) dial() (net.Conn, error) {
	c, err := net.DialTCP("tcp", nil, l.addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	if l.tls != nil {
		return tls.Client(c, l.tls), nil
	}
	return c, nil
}

// once asks over a connection of its own, as the kubelet does, and returns how
// long that took from the dial to the end of the stream.
func (l load) once() (time.Duration, error) {
	start := time.Now()
	c, err := l.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write(l.request("close")); err != nil {
		return 0, err
	}
	var buf [1024]byte
	n := 0
	for err == nil && n < len(buf) {
		var m int
		m, err = c.Read(buf[n:])
		n += m
	}
	took := time.Since(start)
	if err != io.EOF {
		return 0, fmt.Errorf("reading an answer to its end: %w", err)
	}
	return took, check(buf[:n])
}

// again asks over a connection that is to be kept.
func (l load) again(c net.Conn, request []byte) (time.Duration, error) {
	start := time.Now()
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	var buf [1024]byte
	n := 0
	for !bytes.HasSuffix(buf[:n], []byte(body)) {
		m, err := c.Read(buf[n:])
		if n += m; err != nil {
			return 0, fmt.Errorf("reading an answer: %w: %q", err, buf[:n])
		}
	}
	return time.Since(start), check(buf[:n])
}

func check(answer []byte) error {
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer, []byte(body)) {
		return fmt.Errorf("not the answer expected: %q", answer)
	}
	return nil
}

// outcome is what became of some probes.
type outcome struct {
	took   []time.Duration // of those that were answered
	failed int
	err    error // the first failure
}

func (o *outcome) add(took time.Duration, err error) {
	if err == nil {
		o.took = append(o.took, took)
		return
	}
	o.failed++
	if o.err == nil {
		o.err = err
	}
}

// fresh asks n times, over a connection each, and each client without a pause.
func (l load) fresh(ctx context.Context, n, clients int) outcome {
	return together(clients, func() (o outcome) {
		for range n / clients {
			if ctx.Err() == nil {
				o.add(l.once())
			}
		}
		return o
	})
}

// kept is fresh with one connection for each client.
func (l load) kept(ctx context.Context, n, clients int) outcome {
	return together(clients, func() (o outcome) {
		c, err := l.dial()
		if err != nil {
			o.add(0, err)
			return o
		}
		defer c.Close()
		request := l.request("keep-alive")
		for range n / clients {
			if ctx.Err() == nil && o.err == nil {
				o.add(l.again(c, request))
			}
		}
		return o
	})
}

// together sums up what the clients do at once.
func together(clients int, client func() outcome) (sum outcome) {
	results := make(chan outcome, clients)
	for range clients {
		go func() { results <- client() }()
	}
	for range clients {
		o := <-results
		sum.took = append(sum.took, o.took...)
		sum.failed += o.failed
		sum.err = cmp.Or(sum.err, o.err)
	}
	return sum
}

// paced asks n times at a fixed rate, over a connection each. It keeps to the
// rate when the server is slow, as many watchers that know nothing of each
// other would: one that waited for its answers would not see the stalls.
func (l load) paced(ctx context.Context, n int, every time.Duration) (o outcome) {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex // guards o
		start = time.Now()
	)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		pause(time.Until(start.Add(time.Duration(i) * every)))
		all.Go(func() {
			took, err := l.once()
			mu.Lock()
			defer mu.Unlock()
			o.add(took, err)
		})
	}
	all.Wait()
	return o
}

// pause is time.Sleep to tens of microseconds: the runtime of an idle program
// rounds up to a millisecond.
func pause(d time.Duration) {
	if d > 0 {
		t := syscall.NsecToTimespec(d.Nanoseconds())
		syscall.Nanosleep(&t, nil)
	}
}

// hold opens n connections, asks once over each, and keeps them until they are
// released.
func (l load) hold(ctx context.Context, n int) (o outcome, release func()) {
	var (
		all     sync.WaitGroup
		mu      sync.Mutex // guards o and open
		open    []net.Conn
		request = l.request("keep-alive")
		places  = make(chan struct{}, 100) // well below a listener's backlog
	)
	for range n {
		if ctx.Err() != nil {
			break
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			var took time.Duration
			c, err := l.dial()
			if err == nil {
				took, err = l.again(c, request)
			}
			mu.Lock()
			defer mu.Unlock()
			o.add(took, err)
			if c != nil {
				open = append(open, c)
			}
		})
	}
	all.Wait()
	return o, func() {
		for _, c := range open {
			c.Close()
		}
	}
}
