package drain_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A halfClosed is a connection that closes the channel waits when a read deadline is set after CloseWrite.
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

// A halfCloser is a listener that gives halfClosed connections.
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

// The server ends an idle connection and the client never closes it. This holds up the drain for a second, not for all of
// Grace, however late net/http reports StateClosed.
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

// A reset of the client ends the linger of a raw connection after CloseRead, in a drain and before.
func TestResetsEndALingerAfterCloseRead(t *testing.T) {
	onlyOnLinux(t)
	for name, before := range map[string]func(*net.TCPConn){
		"a reset":            func(*net.TCPConn) {},
		"an end and a reset": func(nc *net.TCPConn) { nc.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			s := serveRaw(t, drain.Options{Grace: time.Hour}, deafAnswer)
			c := s.dial()
			s.until("it lingers", func() bool { e := s.Entries(); return len(e) == 1 && e[0].State == "closing" })
			if st := s.Status(); st.Closing != 1 || st.Hijacked != 0 {
				t.Errorf("it is closing, and the status is %+v", st)
			}
			before(c.Conn.(*net.TCPConn))
			c.Conn.(*net.TCPConn).SetLinger(0)
			c.Close()
			s.until("it has left the registry", func() bool { return len(s.Entries()) == 0 })
			s.stop()
			s.clean()
		})
	}
}

// A lookedAt is a connection that sends the lengths of the pauses of a linger to the channel pauses.
type lookedAt struct {
	*net.TCPConn
	at     time.Time
	pauses chan<- time.Duration
}

func (c *lookedAt) SetReadDeadline(t time.Time) error {
	now := time.Now()
	if !c.at.IsZero() {
		c.pauses <- now.Sub(c.at)
	}
	c.at = now
	return c.TCPConn.SetReadDeadline(t)
}

// A linger after CloseRead looks at the connection less and less often. As soon as a drain waits for the connection, the linger
// looks often again.
func TestLingersAfterCloseReadPause(t *testing.T) {
	onlyOnLinux(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pauses := make(chan time.Duration, 10_000)
	s := prepare(t, &http.Server{}, drain.Options{Grace: time.Hour})
	s.addr = ln.Addr().String()
	l := wrapping{ln, func(nc *net.TCPConn) net.Conn { return &lookedAt{TCPConn: nc, pauses: pauses} }}
	s.run(func(ctx context.Context) error { return s.ServeTCP(ctx, l, deafAnswer) })
	c := s.dial()
	s.until("it pauses for longer", func() bool { return <-pauses > 200*time.Millisecond })
	s.handOver()
	seen := 0
	s.until("it looks often", func() bool { // with pauses of a second, the linger would look only ten times in this time
		if len(pauses) > 0 {
			<-pauses
			seen++
		}
		return seen > 20
	})
	io.Copy(io.Discard, c.r)
	c.Close()
	s.clean()
}

// deafAnswer calls CloseRead, and writes more bytes than a client takes that does not read.
func deafAnswer(_ context.Context, nc net.Conn) {
	nc.(halves).CloseRead()
	nc.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(8 << 20)
	nc.Write(make([]byte, 4<<20))
}

// onlyOnLinux skips a test on other systems, on which Unsent always returns 0.
func onlyOnLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says what is unsent")
	}
}
