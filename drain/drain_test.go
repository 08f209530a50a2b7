package drain_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A request that arrived at an idle connection, even one that is due, is answered, and the answer announces the end.
func TestDrainAnswersTheRequestThatArrivesAsItBegins(t *testing.T) {
	for range 50 {
		s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Nanosecond})
		c := s.dial()
		wantBody(t, c.get("/one"), "/one", false)
		s.until("idle", func() bool { return s.Status().Idle == 1 })
		c.send("POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
		s.end(nil)
		a := c.answer()
		if a.status != http.StatusOK || a.body != "body" {
			t.Fatalf("answer %d %q", a.status, a.body)
		}
		c.closed()
		s.clean()
	}
}

// A connection was accepted before the drain, and its first request comes after the drain has begun: the request is answered.
func TestDrainAnswersTheFirstRequestOfAConnection(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	wantBody(t, c.get("/first"), "/first", true)
	c.closed()
	s.clean()
}

// The next request of an idle connection within IdleGrace is answered.
func TestDrainLeavesAYoungIdleConnectionOpen(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.stop()
	c.quiet()
	wantBody(t, c.get("/two"), "/two", true)
	c.closed()
	s.clean()
}

// An idle or silent connection that is older than IdleGrace is closed as soon as the drain begins.
func TestDrainClosesOldIdleConnectionsAtOnce(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Microsecond, Grace: time.Hour})
	used, silent := s.dial(), s.dial()
	wantBody(t, used.get("/one"), "/one", false)
	s.until("both here", func() bool { st := s.Status(); return st.New == 1 && st.Idle == 1 })
	s.stop()
	used.closed()
	silent.closed()
	s.clean()
}

// Hurry closes connections that have been idle for a moment, whatever IdleGrace is. A new silent connection stays open, because
// its first request may be about to come.
func TestHurryClosesIdleConnectionsSoon(t *testing.T) {
	hurry := make(chan struct{})
	s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Hour, Grace: time.Hour, Hurry: hurry})
	idle, silent, busy := s.dial(), s.dial(), s.dial()
	wantBody(t, idle.get("/one"), "/one", false)
	busy.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
	s.until("all here", func() bool { st := s.Status(); return st.New == 1 && st.Idle == 1 && st.Active == 1 })
	s.handOver()
	idle.quiet()
	hurry <- struct{}{}
	idle.closed()
	silent.quiet()
	wantBody(t, silent.get("/late"), "/late", true)
	silent.closed()
	busy.send("dy")
	wantBody(t, busy.answer(), "body", false)
	busy.closed()
	s.clean()
}

// If a part of a header was sent before the drain, the request is answered, however long the rest of the header takes.
func TestDrainWaitsForTheRestOfAHeader(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Nanosecond})
	c := s.dial()
	c.send("GET /par")
	until(t, "the bytes are read", func() bool { return drain.Touched(s.Server) == 1 })
	s.stop()
	c.quiet()
	c.send("tial HTTP/1.1\r\nHost: x\r\n\r\n")
	wantBody(t, c.answer(), "/partial", true)
	c.closed()
	s.clean()
}

// A request is also answered if the beginning of its header, of any length, came together with the request before. net/http has
// read this beginning ahead, so no byte arrives while the connection is idle. Fewer than four bytes keep the connection open
// only for another IdleGrace.
func TestDrainWaitsForTheRestOfAPipelinedHeader(t *testing.T) {
	const first, second = "GET /one HTTP/1.1\r\nHost: x\r\n\r\n", "GET /two HTTP/1.1\r\nHost: x\r\n\r\n"
	for cut := 1; cut < len(second); cut++ {
		hurry := make(chan struct{})
		close(hurry)
		grace := time.Nanosecond
		if cut < 4 {
			grace = time.Hour
		}
		s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: grace, Grace: 10 * time.Hour, Hurry: hurry})
		c, other := s.dial(), s.dial()
		wantBody(t, other.get("/"), "/", false)
		c.send(first + second[:cut])
		wantBody(t, c.answer(), "/one", false)
		s.until("both idle", func() bool { return s.Status().Idle == 2 })
		s.handOver()
		other.closed() // the drain has looked
		until(t, "the bytes are found", func() bool { return drain.Begun(s.Server) == 1 })
		c.send(second[cut:])
		a, err := c.read()
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
		wantBody(t, a, "/two", true)
		c.closed()
		s.clean()
	}
}

// A request that a client has pipelined after a request whose answer announces the end need not be answered. The answer itself
// arrives.
func TestDrainAnswersBeforeItDropsPipelinedRequests(t *testing.T) {
	g := newGate()
	s := serve(t, &http.Server{Handler: g}, drain.Options{})
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	c.send(strings.Repeat("GET /many HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	<-g.entered
	close(g.open)
	wantBody(t, c.answer(), "/many", true)
	c.closed()
	s.clean()
}

// An upload that is under way is finished.
func TestDrainFinishesAnUpload(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Nanosecond})
	body := strings.Repeat("0123456789", 10_000)
	c := s.dial()
	c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:50_000]))
	s.until("active", func() bool { return s.Status().Active == 1 })
	s.stop()
	c.quiet()
	c.send(body[50_000:])
	wantBody(t, c.answer(), body, false)
	c.closed()
	s.clean()
}

// A client that still sends before it has read its answer gets the whole answer, not a reset.
func TestDrainDeliversTheLastAnswerInSpiteOfUnreadBytes(t *testing.T) {
	body := bytes.Repeat([]byte("answer"), 200_000)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})}, drain.Options{})
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("x", 100_000))
	res, err := io.ReadAll(io.LimitReader(c, 1000))
	if err != nil {
		t.Fatal(err)
	}
	s.until("the rest lies in the kernel", func() bool { return s.Status().Closing == 1 || len(s.done) == 1 })
	c.send(strings.Repeat("y", 10_000)) // a closed socket would answer these bytes by a reset
	rest, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(res)+len(rest), err)
	}
	if !bytes.HasSuffix(append(res, rest...), body) {
		t.Errorf("got %d bytes, want %d and a header", len(res)+len(rest), len(body))
	}
	c.Close()
	s.clean()
}

// The drain ends at once with the last request: it does not wait for a timer.
func TestDrainEndsWithItsLastRequest(t *testing.T) {
	const rounds = 100
	var took []time.Duration
	for range rounds {
		g := newGate()
		s := serve(t, &http.Server{Handler: g}, drain.Options{})
		c := s.dial()
		c.send("GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		<-g.entered
		s.handOver()
		s.open()
		close(g.open)
		wantBody(t, c.answer(), "/slow", true)
		c.closed()
		c.Close()
		since := time.Now()
		s.clean()
		took = append(took, time.Since(since))
	}
	slices.Sort(took)
	slowest := took[rounds-1]
	t.Logf("from the last byte that the client took to the return of Serve: median %v, p99 %v, slowest %v",
		took[rounds/2], took[rounds*99/100], slowest)
	if slowest > lingers/2 {
		t.Errorf("slowest end of a drain took %v", slowest)
	}
}

// The drain ends only after the client has taken its last answer and closed, since the end of the process would close the
// connection. But the drain waits for the client at most a second.
func TestDrainWaitsUntilTheClientCloses(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	polite, rude := s.dial(), s.dial()
	s.until("both here", func() bool { return s.Status().New == 2 })
	s.handOver()
	since := time.Now()
	wantBody(t, rude.get("/rude"), "/rude", true)
	wantBody(t, polite.get("/polite"), "/polite", true)
	s.until("both closing", func() bool { return s.Status().Closing == 2 })
	polite.closed()
	s.until("one closing", func() bool { return s.Status().Closing == 1 })
	s.open()
	s.clean()
	if d := time.Since(since); d < lingers/2 || d > lingers*5 {
		t.Errorf("the drain took %v", d)
	}
}

// lingers is how long a server waits for a client that does not close.
const lingers = time.Second

// At the end of Grace, the error lists the requests that are left, and the contexts of their handlers are cancelled.
func TestDrainReportsWhatGraceCut(t *testing.T) {
	gone := make(chan struct{})
	entered := make(chan struct{})
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		<-time.After(20 * time.Millisecond) // it has something to tidy up
		close(gone)
	})}, drain.Options{Grace: 50 * time.Millisecond})
	c := s.dial()
	c.send("PUT /slow?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	s.stop()
	err := s.wait()
	var timeout *drain.TimeoutError
	if !errors.As(err, &timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Serve = %v, want a TimeoutError", err)
	}
	select {
	case <-gone:
	default:
		t.Error("Serve returned before the handler")
	}
	if len(timeout.Left) != 1 || timeout.Grace != 50*time.Millisecond {
		t.Fatalf("%+v", timeout)
	}
	l := timeout.Left[0]
	if l.Remote != c.LocalAddr().String() || l.State != "active" || l.Name != "PUT /slow" || l.Protocol != "http/1.1" || l.Action != "cancelled" || time.Since(l.Since) > patience {
		t.Errorf("left %+v", l)
	}
	contains(t, err.Error(), "drain: 1 left after 50ms", l.Remote, "active", "PUT /slow")
}

// A handler that ignores its context does not hold Serve for ever.
func TestDrainLeavesADeafHandlerBehind(t *testing.T) {
	g := newGate()
	s := serve(t, &http.Server{Handler: g}, drain.Options{Grace: time.Millisecond})
	s.dial().send("GET /deaf HTTP/1.1\r\nHost: x\r\n\r\n")
	<-g.entered
	s.stop()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) {
		t.Errorf("Serve = %v, want a TimeoutError", err)
	}
	close(g.open)
}

// A client that waits for 100 Continue gets it during a drain.
func TestDrainAnswersExpectations(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if line, err := c.r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	c.r.ReadString('\n')
	c.send("body")
	wantBody(t, c.answer(), "body", true)
	c.closed()
	s.clean()
}

// If the drain interrupts a Read and the connection does not end, the deadlines of the http.Server stay as they were.
func TestDrainKeepsTheTimeoutsOfTheServer(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo, IdleTimeout: 300 * time.Millisecond, ReadHeaderTimeout: 300 * time.Millisecond, ReadTimeout: time.Minute},
		drain.Options{IdleGrace: time.Hour, Grace: time.Hour, Move: func(net.Conn) bool { return false }})
	idle, partial := s.dial(), s.dial()
	wantBody(t, idle.get("/one"), "/one", false)
	s.until("both here", func() bool { st := s.Status(); return st.New == 1 && st.Idle == 1 }) // else it is the successor's
	partial.send("GET /partial HTTP/1.1\r\n")
	since := time.Now()
	s.handOver()
	idle.closed()
	partial.closed()
	if d := time.Since(since); d < 100*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
	s.clean()
}

// A hijacked connection is waited for until its owner closes it.
func TestDrainWaitsForHijackedConnections(t *testing.T) {
	s := serve(t, &http.Server{Handler: hijack}, drain.Options{Grace: time.Hour})
	c := s.dial()
	c.send("GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\nhello")
	s.until("hijacked", func() bool { return s.Status().Hijacked == 1 })
	s.stop()
	s.until("draining", func() bool { return s.Status().Phase == drain.Draining })
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	s.open()
	c.Conn.(*net.TCPConn).CloseWrite()
	c.closed()
	s.clean()
}

// hijack takes the connection over and returns what it reads.
var hijack = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	io.Copy(nc, rw)
})

// A hijacked connection that does not end is listed and closed. The functions of RegisterOnShutdown start before the close.
func TestDrainListsHijackedConnections(t *testing.T) {
	told := make(chan struct{})
	srv := &http.Server{Handler: hijack}
	srv.RegisterOnShutdown(func() { close(told) })
	s := serve(t, srv, drain.Options{Grace: 100 * time.Millisecond})
	c := s.dial()
	c.send("GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\n")
	s.until("hijacked", func() bool { return s.Status().Hijacked == 1 })
	s.stop()
	<-told
	s.open()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) || len(timeout.Left) != 1 || timeout.Left[0].State != "hijacked" {
		t.Errorf("Serve = %v", err)
	}
	c.closed()
}
