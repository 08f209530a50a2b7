package upgrade

import (
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// Connections may use up the descriptors of a service, and an upgrade is then the way to another limit. So the main
// generation holds descriptors in reserve, for the start of a candidate, the state and the outcome. New connections would
// take released descriptors: no listener accepts while the reserve is open.

// room is the reserve.
type room struct {
	hold func() (resume func()) // holds back every Accept

	mu     sync.Mutex
	held   sys.Reserve
	size   int
	users  int    // calls of with that run while the reserve is open
	resume func() // lets listeners accept again
}

const (
	// roomFor is the number of descriptors that an upgrade needs beside the listening sockets.
	roomFor = 24
	// lent is how many descriptors lend releases.
	lent = 4
)

// fill fills the reserve for a number of listening sockets, with at most a sixteenth of the descriptors that the process may
// have.
func (m *room) fill(sockets int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = min(roomFor+sockets, sys.FileLimit()/16)
	m.held.Fill(m.size)
}

// refill fills the reserve again after with and lend.
func (m *room) refill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 && m.held.Len() < m.size {
		defer m.hold()()
		m.held.Fill(m.size)
	}
}

// with calls fn, which makes descriptors. If there are too few descriptors, the reserve is open during fn, and no listener
// accepts: fn should not take long then.
func (m *room) with(fn func()) {
	if m.open() {
		defer m.close()
	}
	fn()
}

// open opens the reserve if there are too few descriptors, and reports whether the caller has to close the reserve.
func (m *room) open() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 {
		if m.held.Len() == 0 || sys.Room(m.size) {
			return false
		}
		m.resume = m.hold()
		m.held.Release()
	}
	m.users++
	return true
}

func (m *room) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users == 0 {
		m.held.Fill(m.size)
		m.resume()
	}
}

// lend releases a part of the reserve for a long task, without holding back Accept. Another part of the process may take the
// descriptors first. lend reports whether the reserve held descriptors.
func (m *room) lend() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	had := m.held.Len()
	m.held.Shrink(had - lent)
	return had > 0
}

// drop releases the reserve for good.
func (m *room) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held.Release()
	m.size = 0
}
