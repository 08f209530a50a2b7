package drain

import (
	"crypto/tls"
	"sync"
)

// A registry lists the connections and jobs that a drain waits for. A connection is in the list from its Accept to the end of
// its life. A request does not change the list, and does not lock mu. mu is locked only when a handler hijacks the connection.
type registry struct {
	wake chan struct{} // makes a drain look again whether everything has ended; has room for one signal

	mu     sync.Mutex
	conns  map[*conn]bool // the value is true if net/http owns the connection
	jobs   map[*job]struct{}
	closed bool                // no job is added any more
	owned  int                 // how many of conns net/http owns
	tls    map[*tls.Conn]*conn // the connections that have no wrapper because the listener gave a *tls.Conn
}

func newRegistry() *registry {
	return &registry{
		wake:  make(chan struct{}, 1),
		conns: map[*conn]bool{},
		jobs:  map[*job]struct{}{},
		tls:   map[*tls.Conn]*conn{},
	}
}

// add lists a connection. owned is true if net/http owns the connection. outside is nil for a connection with a wrapper. For a
// connection without a wrapper, outside is the *tls.Conn that net/http uses, and lookupTLS finds the conn by it.
func (r *registry) add(c *conn, owned bool, outside *tls.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = owned
	if owned {
		r.owned++
	}
	if outside != nil {
		r.tls[outside] = c
	}
}

// lookupTLS returns the conn of a connection without a wrapper; nil if there is none.
func (r *registry) lookupTLS(t *tls.Conn) *conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tls[t]
}

// hijacked notes that net/http has given a connection to a handler.
func (r *registry) hijacked(c *conn) {
	r.mu.Lock()
	if r.conns[c] {
		r.conns[c] = false
		r.owned--
	}
	r.mu.Unlock()
	r.notify()
}

// remove takes a connection off the list. A second call changes nothing.
func (r *registry) remove(c *conn) {
	r.mu.Lock()
	if r.conns[c] {
		r.owned--
	}
	delete(r.conns, c)
	if t, ok := c.Conn.(*tls.Conn); ok {
		delete(r.tls, t)
	}
	quiet := r.owned == 0
	r.mu.Unlock()
	if quiet {
		r.notify()
	}
}

// addJob lists a job, and reports whether the registry was open.
func (r *registry) addJob(j *job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.jobs[j] = struct{}{}
	return true
}

// removeJob takes a job off the list. A second call changes nothing.
func (r *registry) removeJob(j *job) {
	r.mu.Lock()
	delete(r.jobs, j)
	r.mu.Unlock()
	r.notify()
}

// notify wakes the drain.
func (r *registry) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// left returns how many connections net/http owns, and how many entries there are in all.
func (r *registry) left() (owned, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owned, len(r.conns) + len(r.jobs)
}

func (r *registry) empty() bool {
	_, all := r.left()
	return all == 0
}

// close closes the registry for new jobs, and reports whether the registry is closed. If force is false, close closes only an
// empty registry.
func (r *registry) close(force bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = r.closed || force || len(r.conns)+len(r.jobs) == 0
	return r.closed
}

// onlyJobs reports whether no connection is left, but a job is.
func (r *registry) onlyJobs() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns) == 0 && len(r.jobs) > 0
}

func (r *registry) listJobs() []*job {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*job, 0, len(r.jobs))
	for j := range r.jobs {
		all = append(all, j)
	}
	return all
}

func (r *registry) list() []*conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*conn, 0, len(r.conns))
	for c := range r.conns {
		all = append(all, c)
	}
	return all
}
