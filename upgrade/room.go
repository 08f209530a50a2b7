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
	mu   sync.Mutex
	held sys.Reserve
	size int
}

// roomFor is what an upgrade needs beside the listening sockets.
const roomFor = 24

// reserveRoom fills the reserve of the main generation: no more than a sixteenth of what the process may have.
func (u *Upgrader) reserveRoom() {
	if u.tf == nil {
		return
	}
	u.room.mu.Lock()
	defer u.room.mu.Unlock()
	u.room.size = min(roomFor+len(u.listeners.Refs()), sys.FileLimit()/16)
	u.room.held.Fill(u.room.size)
}

// refillRoom takes back what withRoom has used.
func (u *Upgrader) refillRoom() {
	u.room.mu.Lock()
	defer u.room.mu.Unlock()
	if u.room.held.Len() < u.room.size {
		defer u.listeners.Hold()()
		u.room.held.Fill(u.room.size)
	}
}

// withRoom calls fn, which makes descriptors and does not wait. If there are too few, fn gets the reserve.
func (u *Upgrader) withRoom(fn func()) {
	u.room.mu.Lock()
	defer u.room.mu.Unlock()
	if u.room.held.Len() == 0 || sys.Room(u.room.size) {
		fn()
		return
	}
	defer u.listeners.Hold()()
	u.room.held.Release()
	defer func() { u.room.held.Fill(u.room.size) }()
	fn()
}

// lent is how many descriptors lendRoom releases.
const lent = 4

// lendRoom releases a part of the reserve for what takes long, so that nothing can be held back meanwhile. Somebody else may be
// faster. It reports whether there was something to release.
func (u *Upgrader) lendRoom() bool {
	u.room.mu.Lock()
	defer u.room.mu.Unlock()
	had := u.room.held.Len()
	u.room.held.Shrink(had - lent)
	return had > 0
}

// dropRoom gives the reserve up.
func (u *Upgrader) dropRoom() {
	u.room.mu.Lock()
	defer u.room.mu.Unlock()
	u.room.held.Release()
	u.room.size = 0
}
