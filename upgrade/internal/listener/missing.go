package listener

import (
	"net"
	"slices"
	"strings"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Which sockets of the older generation this one has not opened. Those that the older one has opened late, while it served, are
// none of them: this one may open them as late.

// Missing is such a socket.
type Missing struct {
	wire.SocketName
	Local string // where it listens, if the name does not say it
}

// String is the network and the address, as Listen takes them, and where the socket listens.
func (m Missing) String() string {
	if m.Local == "" {
		return m.Network + " " + m.Addr
	}
	return m.Network + " " + m.Addr + " (" + m.Local + ")"
}

// Is reports whether the socket was opened with this address, or listens there.
func (m Missing) Is(addr string) bool {
	base, _, _ := strings.Cut(m.Addr, "#")
	return addr == m.Addr || addr == m.Local && addr != "" || addr == base && hasPort(base)
}

func hasPort(addr string) bool {
	_, _, err := net.SplitHostPort(addr)
	return err == nil
}

// hasNoPort reports whether the kernel chooses the port, so that several sockets may have the address.
func hasNoPort(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	return err == nil && (port == "0" || port == "")
}

// Begin makes what is opened from now on late.
func (s *Set) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
}

// Late lists the open sockets that were opened after Begin.
func (s *Set) Late() []wire.SocketName { return s.list(func(r *Socket) bool { return r.late }) }

// Early lists the others.
func (s *Set) Early() []wire.SocketName { return s.list(func(r *Socket) bool { return !r.late }) }

// Own lists the sockets that no service manager has, with those that have come and were not opened.
func (s *Set) Own() map[wire.SocketName]bool {
	names := s.list(func(r *Socket) bool { return r.own })
	if r, ok := s.fds.(*Received); ok {
		for _, f := range r.all() {
			if f.own {
				names = append(names, f.name)
			}
		}
	}
	return asSet(names)
}

func asSet(names []wire.SocketName) map[wire.SocketName]bool {
	set := make(map[wire.SocketName]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// Fresh lists the open sockets that nobody had before this process.
func (s *Set) Fresh() []wire.SocketName { return s.list(func(r *Socket) bool { return r.fresh }) }

func (s *Set) list(has func(*Socket) bool) (names []wire.SocketName) {
	for _, r := range s.Refs() {
		if has(r) {
			names = append(names, wire.SocketName{Kind: r.kind, Network: r.Network, Addr: r.Addr})
		}
	}
	return names
}

// Missing lists what has come and is not open. Of files at exec the older generation has sent the expected names.
func (s *Set) Missing(expected []wire.SocketName) (missing []Missing) {
	if r, ok := s.fds.(*Received); ok {
		return r.missing(s.covered)
	}
	open := s.list(func(*Socket) bool { return true })
	for _, name := range expected {
		if !slices.Contains(open, name) {
			missing = append(missing, Missing{SocketName: name})
		}
	}
	return missing
}

// MissingFiles is Missing for files at exec whose names nobody has sent, as from a program with tableflip only.
func (s *Set) MissingFiles() (missing []Missing) {
	refs := s.Refs()
	for inode, fds := range s.inherited {
		if slices.ContainsFunc(refs, func(r *Socket) bool { return r.inode == inode }) {
			continue
		}
		if name, ok := describe(fds[0]); ok {
			missing = append(missing, Missing{SocketName: name})
		}
	}
	slices.SortFunc(missing, func(a, b Missing) int { return strings.Compare(a.String(), b.String()) })
	return missing
}

// MarkLate notes that this version may open these later.
func (r *Received) MarkLate(names []wire.SocketName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range r.files {
		r.files[i].late = f.late || slices.Contains(names, f.name)
	}
}

// missing leaves out a socket if covered reports that another open socket gets its clients.
func (r *Received) missing(covered func(received) bool) (missing []Missing) {
	for _, f := range r.all() {
		if f.late || covered(f) {
			continue
		}
		m := Missing{SocketName: f.name}
		if base, _, _ := strings.Cut(f.name.Addr, "#"); hasNoPort(base) {
			if at, ok := describe(int(sys.FD(f.file))); ok {
				m.Local = at.Addr
			}
		}
		missing = append(missing, m)
	}
	return missing
}
