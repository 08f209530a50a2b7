//go:build linux

package upgrade_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// peer is a client with one connection, so it stays with one process.
type peer struct {
	t    *testing.T
	c    net.Conn
	r    *bufio.Reader
	by   string // the version that answers
	last bool   // the process has said that it hangs up, as it does when it is to end
}

func (r *running) dial() *peer {
	r.t.Helper()
	network, addr := network(r.set), r.addr
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	p := &peer{t: r.t, c: c, r: bufio.NewReader(c)}
	p.ask("/work")
	return p
}

// dialFrom is dial from an address of this machine.
func (r *running) dialFrom(ip string) *peer {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	p := &peer{t: r.t, c: c, r: bufio.NewReader(c)}
	p.ask("/work")
	return p
}

// connectOnly opens a connection and sends nothing.
func (r *running) connectOnly() *peer {
	r.t.Helper()
	c, err := net.Dial(network(r.set), r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &peer{t: r.t, c: c, r: bufio.NewReader(c)}
}

// connect opens connections until a process of the given version has one.
func (r *running) connect(by string) (p *peer) {
	r.t.Helper()
	testutil.Until(r.t, patience, "a connection to "+by, func() bool {
		if p = r.dial(); p.by != by {
			p.c.Close()
		}
		return p.by == by
	})
	return p
}

// ask sends a request and returns the number that the answer is, if it is one.
func (p *peer) ask(path string) (n int) {
	p.t.Helper()
	p.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	_, _ = fmt.Sscan(p.answer(http.StatusOK), &n)
	return n
}

// begin sends a request that the service executes until finish is called, and returns when it does.
func (p *peer) begin() *peer {
	p.t.Helper()
	p.send("POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	p.answer(http.StatusContinue)
	return p
}

func (p *peer) finish() {
	p.t.Helper()
	p.send("x")
	p.answer(http.StatusOK)
	p.c.Close()
}

func (p *peer) send(s string) {
	p.t.Helper()
	_ = p.c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.c, s); err != nil {
		p.t.Fatalf("write to %s: %v", p.by, err)
	}
}

func (p *peer) answer(status int) string {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatalf("answer of %s: %v", p.by, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		p.t.Fatalf("answer of %s: %s, %v", p.by, resp.Status, err)
	}
	if v := resp.Header.Get("X-Version"); v != "" {
		p.by = v
	}
	p.last = resp.Close
	return string(b)
}

// waitEnding waits until the process is to end.
func (p *peer) waitEnding() {
	p.t.Helper()
	testutil.Until(p.t, patience, p.by+" ends", func() bool { p.ask("/work"); return p.last })
}

// open tells whether the other side has not closed the connection, by asking for nothing.
func (p *peer) open() bool {
	_ = p.c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := p.r.Peek(1)
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// sides counts which version answers on each of the connections, none of which may have been closed.
func (r *running) sides(conns []*peer) map[string]int {
	r.t.Helper()
	n := map[string]int{}
	for i, p := range conns {
		if !p.open() {
			r.t.Fatalf("connection %d was closed", i)
		}
		p.ask("/work")
		n[p.by]++
	}
	return n
}
