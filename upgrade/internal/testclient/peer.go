//go:build linux

package testclient

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// Peer is a client with a single connection, which is with a single process at a time.
type Peer struct {
	net.Conn
	By string // the version that has answered last

	t    *testing.T
	r    *bufio.Reader
	last bool // the process has said that it closes the connection, as it does when it is to end
}

// NewPeer makes a client of a connection. The end of the test closes the connection.
func NewPeer(t *testing.T, c net.Conn) *Peer {
	t.Cleanup(func() { c.Close() })
	return &Peer{Conn: c, t: t, r: bufio.NewReader(c)}
}

// Ask sends a request and returns the number in the answer, 0 if there is none.
func (p *Peer) Ask(path string) (n int) {
	p.t.Helper()
	p.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	_, _ = fmt.Sscan(p.answer(http.StatusOK), &n)
	return n
}

// Begin sends a request, which the service executes until Finish is called, and returns when the service does.
func (p *Peer) Begin() *Peer {
	p.t.Helper()
	p.send("POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	p.answer(http.StatusContinue)
	return p
}

// Finish ends the request of Begin, which must be answered, and closes the connection.
func (p *Peer) Finish() {
	p.t.Helper()
	p.send("x")
	p.answer(http.StatusOK)
	p.Close()
}

func (p *Peer) send(s string) {
	p.t.Helper()
	_ = p.SetDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Fatalf("write to %s: %v", p.By, err)
	}
}

func (p *Peer) answer(status int) string {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatalf("answer of %s: %v", p.By, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		p.t.Fatalf("answer of %s: %s, %v", p.By, resp.Status, err)
	}
	if v := resp.Header.Get("X-Version"); v != "" {
		p.By = v
	}
	p.last = resp.Close
	return string(b)
}

// Open reports whether the other side has not closed the connection, without a request.
func (p *Peer) Open() bool {
	_ = p.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := p.r.Peek(1)
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// WaitEnding waits until the process with the connection is to end.
func (p *Peer) WaitEnding() {
	p.t.Helper()
	testutil.Until(p.t, Patience, p.By+" ends", func() bool { p.Ask("/work"); return p.last })
}

// Sides counts which version answers on each of the connections, none of which may have been closed.
func Sides(t *testing.T, conns []*Peer) map[string]int {
	t.Helper()
	n := map[string]int{}
	for i, p := range conns {
		if !p.Open() {
			t.Fatalf("connection %d was closed", i)
		}
		p.Ask("/work")
		n[p.By]++
	}
	return n
}
