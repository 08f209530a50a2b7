package drain

import (
	"io"
	"net/http"
	"slices"
	"time"
)

// Status is the state of a [Server] at a moment. Each connection is counted once. The Server looks at the connections one after
// another, not at all of them in the same instant. The numbers are meant as gauges: a program with OpenTelemetry can observe
// them in a callback. Package drain itself needs only the standard library.
type Status struct {
	// Phase is the present phase of the server.
	Phase Phase `json:"phase"`
	// Since is when the drain began; zero before the drain.
	Since time.Time `json:"since,omitzero"`
	// New is the number of connections whose first request has not been read.
	New int `json:"new"`
	// Idle is the number of connections between two requests.
	Idle int `json:"idle"`
	// Active is the number of connections with a request that is being answered: net/http has read its header, and the answer
	// is not complete.
	Active int `json:"active"`
	// Hijacked is the number of connections that net/http does not serve and that have not ended: connections that a handler
	// took over, raw connections, and connections of ServeFunc. Those that wait for the client to close are in Closing instead.
	Hijacked int `json:"hijacked"`
	// Closing is the number of connections that have sent their last answer and wait for the client to close.
	Closing int `json:"closing"`
	// Jobs is the number of jobs of Go and of entries of Track.
	Jobs int `json:"jobs"`
	// HTTP2 says how the server ends HTTP/2 connections: in "two steps", or in "one step" (see HTTP/2 in the package text).
	// Empty before the first Serve, and if net/http does not serve HTTP/2.
	HTTP2 string `json:"http2,omitempty"`
}

// Entries lists the registry, the oldest entry first. Entries calls RemoteAddr of every connection, and waits as long as that
// waits: behind a proxy, for example, RemoteAddr may wait for the first bytes of the client.
func (s *Server) Entries() []Entry {
	var all []Entry
	for _, c := range s.registry.list() {
		all = c.entries(all, c.remote())
	}
	for _, j := range s.registry.listJobs() {
		all = append(all, j.entry())
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return a.Since.Compare(b.Since) })
	return all
}

// Status returns the present state of the server. It looks at every connection.
func (s *Server) Status() Status {
	s.mu.Lock()
	steps := s.steps
	s.mu.Unlock()
	st := Status{Phase: s.phase(), Since: s.journal.began(), HTTP2: steps}
	for _, c := range s.registry.list() {
		switch c.counted() {
		case http.StateNew:
			st.New++
		case http.StateIdle:
			st.Idle++
		case http.StateActive:
			st.Active++
		case http.StateHijacked:
			st.Hijacked++
		case http.StateClosed:
			st.Closing++
		}
	}
	st.Jobs = len(s.registry.listJobs())
	return st
}

func (s *Server) phase() Phase {
	switch at := s.course.at(); {
	case at == serving && s.readiness.now() == lameDuck:
		return LameDuck
	case at == draining && s.registry.onlyJobs():
		return Jobs
	default:
		return phases[at]
	}
}

// Report returns the Report of the drain. Before the end of the drain, ok is false, and r has only what is known so far.
func (s *Server) Report() (r Report, ok bool) {
	return s.journal.read(), s.course.at() == drained
}

// Drain makes the server a lame duck, for an operator who takes the server out of a load balancer by hand. The server is not
// ready, and answers over HTTP/1 announce the end of the connection, so that clients connect to another server. The server
// still accepts connections. [Server.Resume] makes the server ready again. HTTP/2 connections that end in two steps go on,
// because Resume could not revoke a GOAWAY. An HTTP/2 connection that ends in one step (see [Status]) ends after its next
// answer. If the context ends while the server is a lame duck, Propagation counts from the call of Drain. Drain returns
// [ErrClosed] if the final drain, after the end of a context, has begun.
func (s *Server) Drain() error { return s.setReady(lameDuck) }

// Resume makes the server ready again after [Server.Drain]. Resume returns [ErrClosed] if the final drain has begun, since a
// final drain cannot be revoked.
func (s *Server) Resume() error { return s.setReady(isReady) }

func (s *Server) setReady(to ready) error {
	if !s.readiness.set(to, s.course) {
		return ErrClosed
	}
	return nil
}

// Readiness returns a handler for the probe of a load balancer. The handler answers 200 and "ok". From the first moment of a
// plain stop, and between Drain and Resume, it answers 503 with Retry-After. A handover does not change the answer, since the
// service goes on.
func (s *Server) Readiness() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		if s.readiness.now() == isReady {
			io.WriteString(w, "ok")
			return
		}
		h.Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "stopping")
	})
}
