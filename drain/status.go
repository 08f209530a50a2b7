package drain

import (
	"io"
	"net/http"
	"slices"
	"time"
)

// Status is the state of a [Server] at a moment. Each connection is counted once, one after another. The numbers are
// made to be gauges: a main with OpenTelemetry observes the numbers in a callback; package drain needs the standard
// library only.
type Status struct {
	// Phase is how far the server is.
	Phase Phase `json:"phase"`
	// Since is when the drain began; zero before.
	Since time.Time `json:"since,omitzero"`
	// New is the number of connections whose first request has not been read.
	New int `json:"new"`
	// Idle is the number of connections between two requests.
	Idle int `json:"idle"`
	// Active is the number of connections with a request.
	Active int `json:"active"`
	// Hijacked is the number of connections that handlers took over and did not close yet, and of raw ones.
	Hijacked int `json:"hijacked"`
	// Closing is the number of connections that have their last answer and wait for the client to close.
	Closing int `json:"closing"`
	// Jobs is the number of jobs, and of entries of Track.
	Jobs int `json:"jobs"`
	// HTTP2 says in how many steps HTTP/2 connections are told to end: "two steps", or "one step" where the http.Server
	// has a TLSNextProto of the user's for them, or a net/http that is not known. Empty before the first Serve,
	// and without HTTP/2.
	HTTP2 string `json:"http2,omitempty"`
}

// Entries lists the registry, the oldest entry first.
func (s *Server) Entries() []Entry {
	var all []Entry
	for _, c := range s.registry.list() {
		all = c.entries(all)
	}
	for _, j := range s.registry.listJobs() {
		all = append(all, j.entry())
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return a.Since.Compare(b.Since) })
	return all
}

// Status returns the state of the server now. Status looks at every connection.
func (s *Server) Status() Status {
	s.mu.Lock()
	steps := s.steps
	s.mu.Unlock()
	st := Status{Phase: s.phase(), Since: s.journal.began(), HTTP2: steps}
	for _, c := range s.registry.list() {
		switch c.reported() {
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

// Report returns how the drain went; false before its end.
func (s *Server) Report() (r Report, ok bool) {
	return s.journal.read(), s.course.at() == drained
}

// Drain makes the server a lame duck, for an operator who takes the server out of a load balancer by hand: the server
// is not ready, and answers over HTTP/1 announce the end of the connection, so that clients look elsewhere. The server
// still accepts, and nothing else ends: a GOAWAY of HTTP/2 could not be taken back. [Server.Resume] ends the time as a
// lame duck. If the context ends meanwhile, Propagation counts from the call of Drain. Drain returns [ErrClosed] if the
// final drain has begun.
func (s *Server) Drain() error { return s.setReady(lameDuck) }

// Resume takes [Server.Drain] back. Resume returns [ErrClosed] if the final drain has begun: a final drain is not taken
// back.
func (s *Server) Resume() error { return s.setReady(isReady) }

func (s *Server) setReady(to ready) error {
	if !s.readiness.set(to, s.course) {
		return ErrClosed
	}
	return nil
}

// Readiness is a handler for the probe of a load balancer: 200 and "ok", and from the first moment of a plain stop, or
// from Drain to Resume, 503 with Retry-After. A handover does not change it, since the service goes on.
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
