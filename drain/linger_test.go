package drain_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// halfClosed is a connection that tells when it has a read deadline after its sending side was closed.
type halfClosed struct {
	*net.TCPConn
	mu     sync.Mutex
	half   bool
	waits  chan struct{}
	closed sync.Once
}

func (c *halfClosed) CloseWrite() error {
	c.mu.Lock()
	c.half = true
	c.mu.Unlock()
	return c.TCPConn.CloseWrite()
}

func (c *halfClosed) SetReadDeadline(t time.Time) error {
	err := c.TCPConn.SetReadDeadline(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.half {
		c.closed.Do(func() { close(c.waits) })
	}
	return err
}

// halfCloser is a listener of one of them.
type halfCloser struct {
	net.Listener
	waits chan struct{}
}

func (l halfCloser) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &halfClosed{TCPConn: nc.(*net.TCPConn), waits: l.waits}, nil
}

// A client that never closes an idle connection that was ended holds up the drain for a second, not for Grace, however late
// net/http says that it has closed it.
func TestDrainDoesNotWaitForClientsToClose(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := halfCloser{ln, make(chan struct{})}
	s := serveOn(t, l, &http.Server{Handler: echo, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			<-l.waits
		}
	}}, drain.Options{IdleGrace: time.Nanosecond, Grace: time.Hour})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.handOver()
	if _, err := c.r.ReadByte(); err != io.EOF { // the client leaves its own side open
		t.Fatalf("read: %v; want EOF", err)
	}
	s.clean()
}
