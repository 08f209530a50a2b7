package drain

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// The ledger lists the connections. One enters in Accept and leaves when net/http reports its end and the last
// bytes are out of danger, or, if it was hijacked, in its Close. A request changes only the state of its connection; mu is
// for coming and going.
type ledger struct {
	wake chan struct{} // has room for one; says that owned or all is zero, or that an accept loop ended

	mu      sync.Mutex
	conns   map[*conn]struct{}
	tickets map[*ticket]struct{} // jobs, and what the server does not know
	closed  bool                 // nothing comes any more
	owned   int                  // how many of conns are not hijacked
	blind   map[*tls.Conn]*conn  // those that came with TLS around them and have no wrapper below it
}

func (l *ledger) init() {
	l.wake = make(chan struct{}, 1)
	l.conns = map[*conn]struct{}{}
	l.tickets = map[*ticket]struct{}{}
	l.blind = map[*tls.Conn]*conn{}
}

// add lists an accepted connection and returns what its server shall serve: net/http if no other protocol is named.
func (l *ledger) add(s *Server, nc net.Conn, proto string) net.Conn {
	now := time.Now()
	wrapper := newConn(nc)
	c := wrapper.self()
	c.srv, c.since, c.heard, c.proto, c.raw = s, now, now, proto, proto == rawTCP
	t, blind := nc.(*tls.Conn)
	blind = blind && proto == ""
	stater, secure := nc.(interface{ ConnectionState() tls.ConnectionState })
	_, socket := nc.(syscall.Conn)
	c.blind, c.tls, c.socket = blind, secure, socket
	if c.guest, _ = nc.(guest); c.guest != nil && c.guest.WasIdle() && proto == "" {
		c.visa = newVisa(s.http)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	if proto != "" {
		c.state = http.StateHijacked
	} else {
		l.owned++
	}
	switch {
	case blind: // net/http looks for exactly this type, so it cannot be wrapped
		l.blind[t] = c
		return t
	case secure:
		return &secureConn{conn: c, stater: stater}
	}
	return wrapper
}

func (l *ledger) opaque(t *tls.Conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blind[t]
}

// disown notes that net/http has given up a connection to a handler.
func (l *ledger) disown() {
	l.mu.Lock()
	l.owned--
	l.mu.Unlock()
	l.notify()
}

// remove strikes a connection off. It may be called twice.
func (l *ledger) remove(c *conn, state http.ConnState) {
	l.mu.Lock()
	_, here := l.conns[c]
	delete(l.conns, c)
	if t, ok := c.Conn.(*tls.Conn); ok {
		delete(l.blind, t)
	}
	if here && state != http.StateHijacked {
		l.owned--
	}
	quiet := l.owned == 0
	l.mu.Unlock()
	if quiet {
		l.notify()
	}
}

// notify wakes the drain.
func (l *ledger) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// left says how many connections net/http has, and how many there are in all.
func (l *ledger) left() (owned, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owned, len(l.conns) + len(l.tickets)
}

// close reports whether nothing is left, and from then on nothing comes.
func (l *ledger) close(force bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = l.closed || force || len(l.conns)+len(l.tickets) == 0
	return l.closed
}

// onlyJobs reports whether no connection is left, but a job is.
func (l *ledger) onlyJobs() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns) == 0 && len(l.tickets) > 0
}

func (l *ledger) listTickets() []*ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*ticket, 0, len(l.tickets))
	for t := range l.tickets {
		all = append(all, t)
	}
	return all
}

func (l *ledger) list() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}
