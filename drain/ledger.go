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

	mu    sync.Mutex
	conns map[*conn]struct{}
	owned int                 // how many of conns are not hijacked
	blind map[*tls.Conn]*conn // those that came with TLS around them and have no wrapper below it
}

func (l *ledger) init() {
	l.wake = make(chan struct{}, 1)
	l.conns = map[*conn]struct{}{}
	l.blind = map[*tls.Conn]*conn{}
}

// add lists an accepted connection and returns what net/http shall serve.
func (l *ledger) add(s *Server, nc net.Conn) net.Conn {
	now := time.Now()
	c := &conn{Conn: nc, srv: s, since: now, heard: now}
	t, blind := nc.(*tls.Conn)
	stater, secure := nc.(interface{ ConnectionState() tls.ConnectionState })
	_, socket := nc.(syscall.Conn)
	c.blind, c.tls, c.socket = blind, secure, socket
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	l.owned++
	switch {
	case blind: // net/http looks for exactly this type, so it cannot be wrapped
		l.blind[t] = c
		return t
	case secure:
		return &secureConn{conn: c, stater: stater}
	}
	return c
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
	return l.owned, len(l.conns)
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
