package drain

import (
	"io"
	"net/http"
	"time"
)

// phase is the phase now. s.mu is locked.
func (s *Server) phase() Phase {
	switch at := s.at(); {
	case at == serving && s.lame.Load():
		return LameDuck
	case at == draining && s.ledger.onlyJobs():
		return Jobs
	default:
		return phases[at]
	}
}

// Drain makes the server a lame duck, as an operator wants it who takes it out of a load balancer by hand: it is not
// ready, and answers over HTTP/1 announce the end of their connections, so that clients look elsewhere; but it goes on to
// accept, and nothing else ends: a connection of HTTP/2 that was told its end could not be taken back. [Server.Resume] takes it back. If the context ends meanwhile, Propagation counts from here. It
// returns [ErrClosed] if the final drain has begun.
func (s *Server) Drain() error { return s.setLame(time.Now()) }

// Resume takes [Server.Drain] back. It returns [ErrClosed] if the final drain has begun: that is not taken back.
func (s *Server) Resume() error { return s.setLame(time.Time{}) }

func (s *Server) setLame(since time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at() != serving {
		return ErrClosed
	}
	if since.IsZero() || s.lameSince.IsZero() {
		s.lameSince = since
	}
	s.lame.Store(!since.IsZero())
	s.ready(since.IsZero())
	return nil
}

func (s *Server) ready(ok bool) {
	if s.opts.Ready != nil {
		s.opts.Ready(ok)
	}
}

// Readiness is a handler for the probe of a load balancer: 200 and "ok", and from the first moment of a plain stop, or
// from Drain to Resume, 503 with Retry-After. A handover does not change it, since the service goes on.
func (s *Server) Readiness() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		if !s.unready.Load() && !s.lame.Load() {
			io.WriteString(w, "ok")
			return
		}
		h.Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "stopping")
	})
}
