package drain_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A lateAddr is a connection whose RemoteAddr may wait until the connection is closed, as that of a connection behind a proxy
// waits for the bytes that name the client.
type lateAddr struct {
	net.Conn
	late   *atomic.Bool // RemoteAddr waits
	asked  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (c *lateAddr) RemoteAddr() net.Addr {
	if c.late.Load() {
		select {
		case c.asked <- struct{}{}:
		default:
		}
		<-c.closed
	}
	return c.Conn.RemoteAddr()
}

func (c *lateAddr) Close() error {
	c.release()
	return c.Conn.Close()
}

// release makes every RemoteAddr return.
func (c *lateAddr) release() { c.once.Do(func() { close(c.closed) }) }

// A lateAddrs is a listener of a single lateAddr.
type lateAddrs struct {
	net.Listener
	conn lateAddr
	used atomic.Bool
}

func listenLate(t *testing.T, late *atomic.Bool) *lateAddrs {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &lateAddrs{Listener: ln, conn: lateAddr{late: late, asked: make(chan struct{}, 1), closed: make(chan struct{})}}
}

func (l *lateAddrs) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil || l.used.Swap(true) {
		return nc, err
	}
	l.conn.Conn = nc
	return &l.conn, nil
}

// While Entries waits for the address of a client, the connection answers requests, Status returns, and a drain closes the
// connection.
func TestLateAddressHoldsUpNoConnection(t *testing.T) {
	var late atomic.Bool
	ln := listenLate(t, &late)
	s := serveOn(t, ln, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Nanosecond})
	t.Cleanup(ln.conn.release)
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	late.Store(true)
	listed := make(chan []drain.Entry, 1)
	go func() { listed <- s.Entries() }() // ends when the drain has closed the connection
	<-ln.conn.asked
	wantBody(t, c.get("/two"), "/two", false)
	if st := s.Status(); st.Idle+st.Active != 1 {
		t.Errorf("Status = %+v", st)
	}
	s.stop()
	c.closed()
	s.clean()
	if all := <-listed; len(all) != 1 || all[0].Remote != c.LocalAddr().String() {
		t.Errorf("Entries = %v", all)
	}
}

// A drain whose Grace has run out does not wait for the address of a client, and yet reports the address.
func TestLateAddressDoesNotExtendGrace(t *testing.T) {
	var late atomic.Bool
	late.Store(true)
	ln := listenLate(t, &late)
	s := prepare(t, &http.Server{}, drain.Options{Grace: 50 * time.Millisecond})
	s.addr = ln.Addr().String()
	release := make(chan struct{})
	s.run(func(ctx context.Context) error {
		return s.ServeTCP(ctx, ln, func(context.Context, net.Conn) { <-release })
	})
	t.Cleanup(ln.conn.release)
	c := s.dial()
	s.until("the connection is here", func() bool { return s.Status().Hijacked == 1 })
	t.Cleanup(func() { close(release) })
	s.end(nil)
	err := s.wait()
	var left *drain.TimeoutError
	if !errors.As(err, &left) || len(left.Left) != 1 || left.Left[0].Remote != c.LocalAddr().String() {
		t.Errorf("Serve = %v", err)
	}
}
