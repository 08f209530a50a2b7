package drain

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/midair-go/midair/drain/internal/frame"
	"github.com/midair-go/midair/drain/internal/life"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// Wrap returns the handler that a Server puts around h.
func Wrap(s *Server, h http.Handler) http.Handler { return hooksOf(s).handler(h) }

func hooksOf(s *Server) *hooks {
	return &hooks{http: s.http, course: s.course, registry: s.registry, readiness: &s.readiness}
}

// Touched counts the connections on which the server has read a part of a request, and the connections whose Move has not
// returned.
func Touched(s *Server) int {
	return count(s, func(c *conn) bool {
		switch c.state {
		case life.Arriving, life.Begun, life.Reading:
			return true
		}
		return c.mover.asked == asking
	})
}

// Begun counts the idle connections on which the server has found the beginning of a next request, even a single byte.
func Begun(s *Server) int {
	return count(s, func(c *conn) bool { return c.state == life.Noted || c.state == life.Reading })
}

func count(s *Server, ok func(*conn) bool) int {
	n := 0
	for _, c := range s.registry.list() {
		c.mu.Lock()
		if ok(c) {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Conns returns the connections that net/http gets.
func Conns(s *Server) (all []net.Conn) {
	for _, c := range s.registry.list() {
		all = append(all, c)
	}
	return all
}

// LastAccepted registers a connection and then removes its listener, as an accept loop does at its end. At the same time
// another goroutine calls left until no loop is left. LastAccepted returns how many connections this call of left has counted.
func LastAccepted() int {
	s := NewServer(nil, Options{})
	near, far := net.Pipe()
	defer near.Close()
	l := &listener{}
	s.listeners.add(l, s.course)
	go func() {
		track(s.course, s.registry, far, netHTTP, "")
		s.listeners.remove(l)
	}()
	for {
		if loops, owned, _ := s.left(); loops == 0 {
			return owned
		}
	}
}

// Framed returns an h2conn around nc, and a function that begins to end the HTTP/2 connection.
func Framed(nc net.Conn) (to net.Conn, announce func()) {
	c := newH2Conn(nc, nil, nil)
	return c, func() {
		c.advance(open, announced)
		c.out.Lock()
		defer c.out.Unlock()
		c.announce()
	}
}

// FirstGoAway has the frames of the first step that ends an HTTP/2 connection.
const FirstGoAway = frame.FirstGoAway

// Hint is the frame that makes net/http end an HTTP/2 connection.
const Hint = frame.Hint

// A ToldConn is an h2conn whose first GOAWAY was written.
type ToldConn struct{ *h2conn }

// Told makes a ToldConn around nc. The methods Close and Write must not be called.
func Told(nc net.Conn) ToldConn {
	c := newH2Conn(nc, &conn{}, nil)
	c.step.Store(int32(told))
	return ToldConn{c}
}

// Learn makes the step acked: the wait for the client is over.
func (c ToldConn) Learn() {
	c.step.Store(int32(acked))
	c.poke()
}

// Used reports whether the client has opened a stream.
func (c ToldConn) Used() bool { return c.in.used.Load() }

// Known reports whether the client has answered.
func (c ToldConn) Known() bool { return c.in.known }

// Greet reads the preface, and reports whether it came.
func (c ToldConn) Greet() bool { return c.greet() }

// AsksForWebSocket reports whether the rules take a request for a WebSocket.
func AsksForWebSocket(r *http.Request) bool { return ruleOf(r) == webSocketUpgrade }

// AsksForEvents reports whether the rules take a request for an EventSource.
func AsksForEvents(r *http.Request) bool { return ruleOf(r) == eventSource }

// Rules counts the rules, and names those that lack a reason.
func Rules() (n int, bare []string) {
	for _, r := range rules {
		if r.asks == nil || r.late == "" || r.running == "" || r.why == "" {
			bare = append(bare, fmt.Sprint(r.kind))
		}
	}
	return len(rules), bare
}

// NewConn returns the connection that net/http gets for nc from Accept, and a function that reports whether the connection is
// taken as HTTP/2.
func NewConn(nc net.Conn) (to net.Conn, isHTTP2 func() bool) {
	s := NewServer(nil, Options{})
	c := track(s.course, s.registry, nc, netHTTP, "").(inRegistry).self()
	return c, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.kind.http2
	}
}

// Asked counts the WebSockets that are to be closed.
func Asked(s *Server) int {
	n := 0
	for _, c := range s.registry.list() {
		c.mu.Lock()
		ws, ok := c.stream.(*wsConn)
		c.mu.Unlock()
		if !ok {
			continue
		}
		ws.writing.Lock()
		if ws.asked {
			n++
		}
		ws.writing.Unlock()
	}
	return n
}

// Hooks returns a function that does all for a request of HTTP/1 on nc that package drain does: net/http itself is left out.
func Hooks(s *Server, nc net.Conn, r *http.Request) (request func()) {
	c := track(s.course, s.registry, nc, netHTTP, "").(inRegistry).self()
	hooks := hooksOf(s)
	ctx := hooks.connContext(nil)(r.Context(), c)
	r = r.WithContext(ctx)
	h := hooks.handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	state := hooks.connState(nil)
	state(c, http.StateNew)
	buf := make([]byte, 512)
	return func() {
		c.Read(buf)
		state(c, http.StateActive)
		h.ServeHTTP(nil, r)
		c.Write(buf)
		state(c, http.StateIdle)
		c.SetReadDeadline(time.Time{})
	}
}

// EventStreamsAsked counts the event streams that are to end or have ended.
func EventStreamsAsked(s *Server) int {
	n := 0
	for _, c := range s.registry.list() {
		_, streams := c.closers()
		for _, f := range streams {
			if e, ok := f.(*eventStream); ok {
				e.mu.Lock()
				if e.ending != goesOn {
					n++
				}
				e.mu.Unlock()
			}
		}
	}
	return n
}

// SetReadsAsKnown replaces the results of readsAsKnown and wasFoundKnown by known, until undo is called.
func SetReadsAsKnown(known bool) (undo func()) {
	before, found := readsAsKnown, wasFoundKnown
	readsAsKnown = func() bool { return known }
	wasFoundKnown = readsAsKnown
	return func() { readsAsKnown, wasFoundKnown = before, found }
}

// NoteChecks calls noted before each call of readsAsKnown, until undo is called.
func NoteChecks(noted func()) (undo func()) {
	before := readsAsKnown
	readsAsKnown = func() bool {
		noted()
		return before()
	}
	return func() { readsAsKnown = before }
}

// Part begins a part of a copy by the kernel from the only connection of s, and returns the function that ends the part.
func Part(s *Server) (end func(n int64), err error) {
	from := (*reading)(s.registry.list()[0])
	_, err = from.Await(sockbuf.NewWaiter(from.Conn))
	return from.Read, err
}

// Leaves reports whether a drain interrupts the only connection of s when the connection is due.
func Leaves(s *Server) bool {
	c := s.registry.list()[0]
	c.consider(time.Now().Add(time.Hour))
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader.deadline.interrupted
}

// Heard returns when the IdleGrace of the only connection of s has begun.
func Heard(s *Server) time.Time {
	c := s.registry.list()[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader.heard.time()
}

// A Cell describes a connection after an event.
type Cell struct {
	After      life.State
	Closes     int  // of the socket
	Registered bool // the drain waits for the connection
	Owned      bool // and net/http owns the connection
	Restored   bool // the read deadline of the owner was put back
	Extended   bool // IdleGrace counts from now
	MayMove    bool // Move is to be asked again
}

// Happen makes a connection of net/http around nc, puts it into the state s, and lets the event e happen. nc counts the calls
// of Close.
func Happen(nc interface {
	net.Conn
	Closes() int
}, s life.State, e life.Event) Cell {
	srv := NewServer(nil, Options{})
	c := track(srv.course, srv.registry, nc, netHTTP, "").(inRegistry).self()
	c.state = s
	old := moment(1)
	c.reader.heard, c.reader.deadline, c.mover.asked = old, readDeadline{time.Unix(2, 0), true}, declined
	c.happen(e)
	if life.Next(s, e).Do == life.Discard { // another goroutine ends that
		for lingers := true; lingers; runtime.Gosched() {
			c.mu.Lock()
			lingers = c.state.Lingers()
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	srv.registry.mu.Lock()
	defer srv.registry.mu.Unlock()
	owned, registered := srv.registry.conns[c]
	return Cell{
		After: c.state, Closes: nc.Closes(), Registered: registered, Owned: owned, Restored: !c.reader.deadline.interrupted,
		Extended: c.reader.heard != old, MayMove: c.mover.asked == notAsked,
	}
}

// InRequest returns the connection that net/http gets for nc, in a drain and while a request of HTTP/1 is answered. The function
// rest notes that the request has ended.
func InRequest(nc net.Conn) (to net.Conn, rest func()) {
	s := NewServer(nil, Options{})
	s.course.stage.Store(int32(draining))
	c := track(s.course, s.registry, nc, netHTTP, "").(inRegistry).self()
	c.enter(http.StateActive)
	return c, func() { c.enter(http.StateIdle) }
}
