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
	// Propagating is the time of a plain stop in which new connections are still accepted.
	Propagating Phase = "propagating"
	// Draining is the time in which what is there is finished.
	Draining Phase = "draining"
	// Drained is the end: Serve returns.
	Drained Phase = "drained"
)

// Status is what a [Server] does at a moment. The counts are taken one after the other: a connection that
// changes its state meanwhile may be in two of them or in none.
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
}

// Status tells what the server does now. It costs a lock and a few atomic loads.
func (s *Server) Status() Status {
	s.mu.Lock()
	st := Status{Phase: s.phase, Since: s.since}
	s.mu.Unlock()
	st.New = s.ledger.count(http.StateNew)
	st.Idle = s.ledger.count(http.StateIdle)
	st.Active = s.ledger.count(http.StateActive)
	st.Hijacked = s.ledger.count(http.StateHijacked)
	st.Closing = s.ledger.count(http.StateClosed)
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
