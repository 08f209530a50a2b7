package upgrade

import (
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// Connections may use up the descriptors of a service, and an upgrade is then the way to another limit. So the main
// generation holds some in reserve, for the start of a candidate, the state and the outcome. What is released would go to
// the next connections: nothing accepts while the reserve is open.

// room is the reserve.
type room struct {
	hold func() (resume func()) // makes nothing accept

	mu     sync.Mutex
	held   sys.Reserve
	size   int
	users  int    // of the reserve while it is open
	resume func() // ends that nothing accepts
}

const (
	// roomFor is what an upgrade needs beside the listening sockets.
	roomFor = 24
	// lent is how many descriptors lend releases.
	lent = 4
)

// fill fills the reserve for a number of listening sockets: no more than a sixteenth of what the process may have.
func (m *room) fill(sockets int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = min(roomFor+sockets, sys.FileLimit()/16)
	m.held.Fill(m.size)
}

// refill takes back what with and lend have used.
func (m *room) refill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 && m.held.Len() < m.size {
		defer m.hold()()
		m.held.Fill(m.size)
	}
}

// with calls fn, which makes descriptors. If there are too few, the reserve is open meanwhile, and nothing accepts: fn should not
// take long then.
func (m *room) with(fn func()) {
	if m.open() {
		defer m.close()
	}
	fn()
}

// open opens the reserve if there are too few descriptors without it.
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

// lend releases a part of the reserve for what takes long, so that nothing can be held back meanwhile. Somebody else may be
// faster. It reports whether there was something to release.
func (m *room) lend() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	had := m.held.Len()
	m.held.Shrink(had - lent)
	return had > 0
}

// drop gives the reserve up.
func (m *room) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held.Release()
	m.size = 0
}
