package drain

import (
	"io"
	"net/http"
	"time"
)

// A Phase says how far a [Server] is.
type Phase string

// The phases, in their order.
const (
	// Serving is the phase from the start to the end of the first context.
	Serving Phase = "serving"
	// Propagating is the time of a plain stop as a lame duck: not ready, and still accepting.
	Propagating Phase = "propagating"
	// Draining is the time in which what is there is finished.
	Draining Phase = "draining"
	// Drained is the end: Serve returns.
	Drained Phase = "drained"
)

// phases are what the stages are called.
var phases = [...]Phase{serving: Serving, propagating: Propagating, draining: Draining, expired: Draining, drained: Drained}

// Status is what a [Server] does at a moment. Each connection is counted once, one after the other.
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
	// Hijacked is the number of connections that handlers took over and did not close yet.
	Hijacked int `json:"hijacked"`
	// Closing is the number of connections that have their last answer and wait for the client to close.
	Closing int `json:"closing"`
	// HTTP2 says in how many steps HTTP/2 connections are told to end: "two steps", or "one step" where the http.Server
	// has a TLSNextProto of the user's for them, or a net/http that is not known. Empty before the first Serve.
	HTTP2 string `json:"http2,omitempty"`
}

// Status tells what the server does now. It looks at every connection.
func (s *Server) Status() Status {
	s.mu.Lock()
	st := Status{Phase: phases[s.at()], Since: s.since, HTTP2: s.steps}
	s.mu.Unlock()
	for _, c := range s.ledger.list() {
		switch c.current() {
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
	return st
}

// Readiness is a handler for the probe of a load balancer: 200 and "ok", and from the first moment of a plain stop
// 503 with Retry-After. A handover does not change it, since the service goes on.
func (s *Server) Readiness() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		if !s.unready.Load() {
			io.WriteString(w, "ok")
			return
		}
		h.Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "stopping")
	})
}
