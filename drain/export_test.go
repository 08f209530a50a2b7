package drain

import (
	"net"
	"net/http"
)

// Wrap is the handler that the http.Server gets for h.
func Wrap(s *Server, h http.Handler) http.Handler { return s.wrap(h) }

// Touched counts the connections that have sent something since they were new or idle, as far as the server knows.
func Touched(s *Server) int {
	n := 0
	for _, c := range s.ledger.list() {
		c.mu.Lock()
		if c.touched && c.state != http.StateActive {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Queued is queued.
var Queued = queued

// Conns are the connections as net/http has them.
func Conns(s *Server) (all []net.Conn) {
	for _, c := range s.ledger.list() {
		all = append(all, c)
	}
	return all
}
