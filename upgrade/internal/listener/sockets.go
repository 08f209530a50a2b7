package listener

import (
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// age describes how far a process is on its way to serving.
type age uint8

const (
	starting age = iota // the program opens its sockets
	prepared            // Begin was called: a socket that is opened from now on is late
	serving             // BeginListening was called: a socket that is opened from now on listens at once
)

// sockets has the open sockets of a process, in the order in which they were opened.
type sockets struct {
	mu      sync.Mutex
	all     index
	bound   bool // a socket was opened that is only bound, see beside.go; false again after BeginListening
	age     age
	doors   doors
	keep    bool                       // closed sockets stay in the set, and can be passed on; true in an aborted candidate
	unlink  bool                       // closing a unix socket removes its path, because no other process serves there
	changed func(r *Socket, open bool) // called for each socket that is opened or closed; nil unless Follow was called
	atExec  passedFDs                  // the sockets that were passed as files at exec
}

// add adds an open socket.
func (s *sockets) add(r *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.late = s.age > starting
	s.all.add(r)
	s.bound = s.bound || r.beside != nil
	if s.changed != nil {
		s.changed(r, true)
	}
	if s.doors.admit(r) {
		r.gate.open()
	}
}

// take takes a socket out of the list. ok is false if the socket is not in the list, or if keep is true. The caller removes the
// path of the socket if unlink is true, and then calls drop.
func (s *sockets) take(ref *Socket) (unlink, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.freed(ref)
	if s.keep || !s.all.remove(ref) {
		return false, false
	}
	if s.changed != nil {
		s.changed(ref, false)
	}
	return s.unlink, true
}

// takePaths takes all sockets out of the list. It returns the sockets whose paths have to be removed, and drops all others.
func (s *sockets) takePaths() (left []*Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all.removeAll() {
		if s.unlink && r.path != "" {
			left = append(left, r)
		} else {
			r.drop(s.atExec)
		}
	}
	return left
}

// drop closes the duplicate of a socket that is not in the list any more.
func (s *sockets) drop(r *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.drop(s.atExec)
}

// UnlinkOnClose sets whether closing a unix socket removes its path. unlink must be true only if no other process serves at the
// paths.
func (s *sockets) UnlinkOnClose(unlink bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlink = unlink
}

// KeepClosed sets whether a socket can still be passed on after the program has closed it.
func (s *sockets) KeepClosed(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = on
}

// ClaimInherited notes the descriptors that the old process has passed. It must be called before the process opens any file.
func (s *sockets) ClaimInherited() { s.atExec = inheritedFDs() }

// Follow calls the function each for every open socket. After that, the function changed is called for each socket that is
// opened or closed, until Follow(nil, nil) is called. The lock of the set is held during all these calls.
func (s *sockets) Follow(each func(*Socket), changed func(r *Socket, open bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
	if each == nil {
		return
	}
	for r := range s.all.each() {
		each(r)
	}
}

// Refs returns the open sockets, in the order in which they were opened.
func (s *sockets) Refs() []*Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(s.all.each())
}

// Len returns the number of open sockets.
func (s *sockets) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.order.Len()
}

// near returns the open sockets whose spot may overlap with the given spot, see the method near of spots.
func (s *sockets) near(want spot) []*Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.near(want)
}

// Late returns the open sockets that were opened after Begin.
func (s *sockets) Late() map[wire.SocketName]bool {
	return asSet(s.list(func(r *Socket) bool { return r.late }))
}

// Early returns the open sockets that were opened before Begin.
func (s *sockets) Early() []wire.SocketName { return s.list(func(r *Socket) bool { return !r.late }) }

// Fresh returns the open sockets that no process had before this process.
func (s *sockets) Fresh() []wire.SocketName { return s.list((*Socket).Fresh) }

// Paths returns the names of the open unix sockets that have a path.
func (s *sockets) Paths() (names []wire.SocketName) {
	return s.list(func(r *Socket) bool { return r.path != "" })
}

func (s *sockets) list(has func(*Socket) bool) (names []wire.SocketName) {
	for _, r := range s.Refs() {
		if has(r) {
			names = append(names, r.socketName())
		}
	}
	return names
}

// MissingFiles returns the sockets that were passed as files at exec and are not open. It is used in place of Missing if the
// old process has sent no names: such a process uses tableflip without this library.
func (s *sockets) MissingFiles() (missing []Missing) {
	open := map[uint64]bool{}
	for _, r := range s.Refs() {
		open[r.inode] = true
	}
	for inode, fds := range s.atExec {
		if open[inode] {
			continue
		}
		if name, ok := describe(fds[0]); ok {
			missing = append(missing, Missing{SocketName: name})
		}
	}
	slices.SortFunc(missing, func(a, b Missing) int { return strings.Compare(a.String(), b.String()) })
	return missing
}

// named returns the open listener with the given name, or nil. If addr is empty, named returns the first listener that is not
// pinned.
func (s *sockets) named(network, addr string) *Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr == "" {
		for r := range s.all.each() {
			if r.kind == "listener" && !r.pinned {
				return r
			}
		}
	}
	for _, r := range s.all.named[address{network, addr}] {
		if r.kind == "listener" {
			return r
		}
	}
	return nil
}

// name returns the Addr of a new Socket. Addr and Network together are the name by which the next generation finds the socket.
// The caller holds Set.opening.
//
// For a unix socket, name returns the plain path. The path is unique, because it cannot be bound twice. If a new process does
// not take the socket, tableflip removes the path by this name. Other sockets may have the same address, with port 0 or with
// SO_REUSEPORT. For the address ":0", the first socket gets ":0", as in tableflip. The next sockets get ":0#2" and ":0#3", in
// the order of opening. Pinned listeners with port 0 are numbered separately: ":0#pinned", ":0#pinned#2".
func (s *sockets) name(network, addr string, pinned bool) string {
	if _, _, err := net.SplitHostPort(addr); err != nil || strings.HasPrefix(network, "unix") {
		return addr
	}
	if pinned && hasNoPort(addr) {
		addr += "#pinned"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.freeName(network, addr)
}
