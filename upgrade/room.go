package upgrade

import (
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// Connections may use up the descriptors of a service. An upgrade to a version with a higher limit must work even then. So the
// main generation holds descriptors in reserve, for the start of a candidate, the state and the outcome. To open the reserve
// means to release its descriptors. New connections would use these descriptors, so no listener accepts while the reserve is
// open.

// room is the reserve of descriptors.
type room struct {
	hold func() (resume func()) // makes every Accept wait until resume is called

	mu     sync.Mutex
	held   sys.Reserve
	size   int    // how many descriptors the full reserve has
	users  int    // the number of running calls of room.with that have found or made the reserve open
	resume func() // lets listeners accept again; set while the reserve is open
}

const (
	// roomFor is the number of descriptors that an upgrade needs beside the listening sockets.
	roomFor = 24
	// lent is the number of descriptors that lend releases.
	lent = 4
)

// fill fills the reserve. sockets is the number of listening sockets. The reserve has at most a sixteenth of the descriptors
// that the process may have.
func (m *room) fill(sockets int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = min(roomFor+sockets, sys.FileLimit()/16)
	m.held.Fill(m.size)
}

// refill fills the reserve again if it is not full, for example after lend. While the reserve is open, refill does nothing.
func (m *room) refill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 && m.held.Len() < m.size {
		defer m.hold()()
		m.held.Fill(m.size)
	}
}

// with calls fn, which makes a few descriptors, but none of the listening sockets. If the process has too few free descriptors,
// with opens the reserve while fn runs. No listener accepts in this time, so fn should not take long.
func (m *room) with(fn func()) { m.withSockets(0, fn) }

// withSockets is with for a function that makes descriptors of this many listening sockets too.
func (m *room) withSockets(sockets int, fn func()) {
	if m.open(roomFor + sockets) {
		defer m.close()
	}
	fn()
}

// open opens the reserve if the process has fewer than need free descriptors, or than the full reserve has. It reports whether
// the caller has to call close.
func (m *room) open(need int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 {
		if m.held.Len() == 0 || sys.Room(min(need, m.size)) {
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

// lend releases a part of the reserve for a long task. Listeners go on accepting, so a new connection may use up a released
// descriptor before the task needs it. lend reports whether the reserve held descriptors before the call.
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
