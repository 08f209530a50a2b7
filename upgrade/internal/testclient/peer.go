//go:build linux

package testclient

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Peer is a client with a single connection. At any time one process of the service has the connection.
type Peer struct {
	net.Conn
	By string // the version of the process that gave the last answer

	t    *testing.T
	r    *bufio.Reader
	last bool // the last answer had Connection: close, so the process is about to end
}

// NewPeer makes a client of a connection. The end of the test closes the connection.
func NewPeer(t *testing.T, c net.Conn) *Peer {
	t.Cleanup(func() { c.Close() })
	return &Peer{Conn: c, t: t, r: bufio.NewReader(c)}
}

// Ask sends a request, and returns the number in the answer; 0 if the answer has no number.
func (p *Peer) Ask(path string) (n int) {
	p.t.Helper()
	p.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	_, _ = fmt.Sscan(p.answer(http.StatusOK), &n)
	return n
}

// Assigned returns what upgrade.Assigned returns for the connection in the process that answers.
func (p *Peer) Assigned() (a plan.Assignment) {
	p.t.Helper()
	p.send("POST /assigned HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	if err := json.Unmarshal([]byte(p.answer(http.StatusOK)), &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// Begin sends a request, and returns when the service has begun to execute the request. The execution goes on until Finish is
// called.
func (p *Peer) Begin() *Peer {
	p.t.Helper()
	p.send("POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	p.answer(http.StatusContinue)
	return p
}

// Finish lets the request of Begin end, waits for its answer, and closes the connection. Without an answer the test ends.
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

// Open reports whether the connection is open on the other side. Open sends no request.
func (p *Peer) Open() bool {
	_ = p.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := p.r.Peek(1)
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// WaitEnding sends requests until an answer shows that the process with the connection is about to end.
func (p *Peer) WaitEnding() {
	p.t.Helper()
	testutil.Until(p.t, Patience, p.By+" ends", func() bool { p.Ask("/work"); return p.last })
}

// Sides sends a request on each connection, and counts the answers by version. If a connection was closed, the test ends.
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
