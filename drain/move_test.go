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

// A mover passes connections to a successor in the same process, by duplicates of their descriptors as another
// process would get them.
type mover struct {
	t     testing.TB
	conns chan net.Conn
	once  sync.Once
	asked chan net.Conn // what Move was offered
}

func newMover(t testing.TB) *mover {
	return &mover{t: t, conns: make(chan net.Conn, 100), asked: make(chan net.Conn, 100)}
}

func (m *mover) move(nc net.Conn) bool {
	m.asked <- nc
	f, err := nc.(*net.TCPConn).File()
	if err != nil {
		m.t.Error(err)
		return false
	}
	defer f.Close()
	dup, err := net.FileConn(f)
	if err != nil {
		m.t.Error(err)
		return false
	}
	nc.Close() // nc belongs to Move; the connection stays open by the descriptor dup
	m.conns <- dup
	return true
}

// A mover is also the listener of the successor.
func (m *mover) Accept() (net.Conn, error) {
	nc, ok := <-m.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}

func (m *mover) Close() error   { m.once.Do(func() { close(m.conns) }); return nil }
func (m *mover) Addr() net.Addr { return &net.TCPAddr{} }

// Idle and silent connections move, and their clients notice nothing. An active connection moves after its answer.
func TestMovePassesIdleConnections(t *testing.T) {
	m := newMover(t)
	next := serveOn(t, m, &http.Server{Handler: echo}, drain.Options{})
	g := newGate()
	mux := http.NewServeMux()
	mux.Handle("/", echo)
	mux.Handle("/slow", g)
	s := serve(t, &http.Server{Handler: mux, WriteTimeout: time.Minute, IdleTimeout: time.Minute}, drain.Options{Move: m.move, IdleGrace: time.Hour, Grace: time.Hour})
	idle, silent, busy := s.dial(), s.dial(), s.dial()
	wantBody(t, idle.get("/one"), "/one", false)
	busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-g.entered
	s.until("all here", func() bool { st := s.Status(); return st.New == 1 && st.Idle == 1 && st.Active == 1 })
	s.handOver()
	next.until("two came", func() bool { return next.Status().New == 2 })
	close(g.open)
	wantBody(t, busy.answer(), "/slow", false)
	s.clean()
	for _, c := range []*client{idle, silent, busy} {
		c.quiet()
		wantBody(t, c.get("/moved"), "/moved", false)
	}
	next.stop()
	for _, c := range []*client{idle, silent, busy} {
		wantBody(t, c.get("/end"), "/end", true)
		c.closed()
	}
	next.clean()
}

// Clients that pipeline across a move lose nothing: a connection with bytes read ahead stays.
func TestMoveTakesNoConnectionWithBytesReadAhead(t *testing.T) {
	const first, second = "GET /one HTTP/1.1\r\nHost: x\r\n\r\n", "GET /two HTTP/1.1\r\nHost: x\r\n\r\n"
	for cut := range len(second) {
		m := newMover(t)
		next := serveOn(t, m, &http.Server{Handler: echo}, drain.Options{})
		s := serve(t, &http.Server{Handler: echo}, drain.Options{Move: m.move, IdleGrace: time.Hour, Grace: time.Hour})
		c := s.dial()
		c.send(first + second[:cut])
		wantBody(t, c.answer(), "/one", false)
		s.handOver()
		if cut > 0 {
			until(t, "the bytes are found", func() bool { return drain.Begun(s.Server) == 1 })
		}
		c.send(second[cut:])
		a, err := c.read()
		if err != nil || a.body != "/two" {
			t.Fatalf("cut after %d bytes: %q, %v", cut, a.body, err)
		}
		if cut > 0 && len(m.asked) > 0 {
			t.Fatalf("cut after %d bytes: it was offered", cut)
		}
		c.Close()
		s.clean()
		next.stop()
		next.clean()
	}
}

// If Move returns false, nothing changes: the connection is served, and when it is due, Move is asked once more and then the
// connection is closed.
func TestMoveMayDecline(t *testing.T) {
	asked := make(chan net.Conn, 10)
	hurry := make(chan struct{})
	s := serve(t, &http.Server{Handler: echo}, drain.Options{
		IdleGrace: time.Hour, Grace: time.Hour, Hurry: hurry,
		Move: func(nc net.Conn) bool { asked <- nc; return false },
	})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.handOver()
	if nc := <-asked; nc.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("offered %v, want %v", nc.RemoteAddr(), c.LocalAddr())
	} else if _, ok := nc.(*net.TCPConn); !ok {
		t.Errorf("offered a %T", nc)
	}
	c.quiet()
	close(hurry)
	<-asked
	c.closed()
	s.clean()
}

// If something is received from Rebalance while Move runs, Move is asked again, even if the client sends nothing meanwhile.
func TestMoveIsAskedForEachOffer(t *testing.T) {
	offers, answer := make(chan struct{}), make(chan bool)
	var asked atomic.Int64
	s := serve(t, &http.Server{Handler: echo}, drain.Options{
		Rebalance: offers,
		Move:      func(net.Conn) bool { asked.Add(1); return <-answer },
	})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	offers <- struct{}{}
	s.until("Move is asked", func() bool { return asked.Load() == 1 })
	offers <- struct{}{}
	offers <- struct{}{} // received only after the offer before was made
	answer <- false
	s.until("Move is asked again", func() bool { return asked.Load() == 2 })
	close(answer)
	wantBody(t, c.get("/two"), "/two", false)
	c.Close()
	s.stop()
	s.clean()
}

// A TLS connection has its keys in this process, so Move is not asked.
func TestMoveIsNotOfferedTLS(t *testing.T) {
	s := prepare(t, &http.Server{Handler: echo, TLSConfig: certificate(t)}, drain.Options{
		IdleGrace: time.Nanosecond,
		Move:      func(nc net.Conn) bool { t.Errorf("offered %v", nc); return false },
	})
	s.startTLS()
	c := s.dialTLS("http/1.1")
	wantBody(t, c.get("/one"), "/one", false)
	s.handOver()
	c.closed()
	s.clean()
}

// If Move panics, only the connection of this Move ends, as with a handler.
func TestMoveMayPanic(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{Move: func(net.Conn) bool { panic("of the user") }})
	idle, busy := s.dial(), s.dial()
	wantBody(t, idle.get("/one"), "/one", false)
	busy.send("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbo")
	s.until("both here", func() bool { st := s.Status(); return st.Idle == 1 && st.Active == 1 })
	s.handOver()
	idle.closed()
	busy.send("dy")
	wantBody(t, busy.answer(), "body", true)
	busy.closed()
	s.clean()
}

// If Grace runs out while Move runs, Serve returns, and a connection that Move takes later ends.
func TestMoveMayOutliveGrace(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	s := serve(t, &http.Server{Handler: echo}, drain.Options{
		Grace: 20 * time.Millisecond,
		Move:  func(net.Conn) bool { close(asked); <-answer; return true },
	})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.handOver()
	<-asked
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve = %v", err)
	}
	close(answer)
	c.closed()
}

// Connections move from server to server under load. No request is lost, and a client reconnects only after an answer that has
// announced the end.
func TestMoveLosesNoRequestUnderLoad(t *testing.T) {
	const rounds, clients = 50, 20
	moved := 0
	in := newMover(t)
	n := upgrades(t, rounds, clients, func(ln net.Listener) generation {
		out := newMover(t)
		s := drain.NewServer(&http.Server{Handler: echo}, drain.Options{Move: out.move})
		ctx, end := context.WithCancelCause(context.Background())
		var wg sync.WaitGroup
		for _, l := range []net.Listener{ln, in} {
			wg.Go(func() {
				if err := s.Serve(ctx, l); err != nil {
					t.Errorf("Serve = %v", err)
				}
			})
		}
		in = out
		return generation{func() {
			end(upgraded{})
			wg.Wait()
			moved += len(out.asked)
		}}
	})
	in.Close()
	for nc := range in.conns { // of the last one: nobody accepts them
		nc.Close()
	}
	t.Logf("%d moves: %v", moved, n)
	if n.lost.Load() != 0 || n.conns.Load() > n.announced.Load()+clients || moved == 0 {
		t.Errorf("first loss: %v", n.first.Load())
	}
}
