package listener

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// An address that the new version spells in another way: "localhost:80" and "127.0.0.1:80" are the same socket, which is taken over
// under its new name, and so are two paths to the same name in a directory. What another generation says of it by the old
// name is understood. What is another socket on the same port is in beside.go.

// spot is where a socket is.
type spot struct {
	network string // tcp, udp, or that of a unix socket
	at      netip.AddrPort
	both    bool // a wildcard of IPv6 that has the clients of IPv4 too
	path    string
}

// spotOf resolves what Listen was asked for. It may ask a name server.
func spotOf(name wire.SocketName) (p spot, ok bool) {
	if hasPath(name) {
		path := filepath.Clean(startPath(name.Addr))
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		return spot{network: name.Network, path: path}, true
	}
	addr, _, _ := strings.Cut(name.Addr, "#")
	var zone string
	switch {
	case strings.HasPrefix(name.Network, "tcp"):
		a, err := net.ResolveTCPAddr(name.Network, addr)
		if err != nil {
			return p, false
		}
		p.at, zone = a.AddrPort(), a.Zone
	case strings.HasPrefix(name.Network, "udp"):
		a, err := net.ResolveUDPAddr(name.Network, addr)
		if err != nil {
			return p, false
		}
		p.at, zone = a.AddrPort(), a.Zone
	}
	if p.at.Port() == 0 || zone != "" {
		return p, false
	}
	p.network = name.Network[:3]
	ip := p.at.Addr().Unmap()
	if !ip.IsValid() || ip.IsUnspecified() { // package net makes one of both families if it may choose
		ip, p.both = netip.IPv6Unspecified(), len(name.Network) == 3
		if strings.HasSuffix(name.Network, "4") {
			ip = netip.IPv4Unspecified()
		}
	}
	p.at = netip.AddrPortFrom(ip, p.at.Port())
	return p, true
}

// spotted is where a socket that has come is bound.
func spotted(name wire.SocketName, file *os.File) (p spot, ok bool) {
	if hasPath(name) {
		return spotOf(name)
	}
	is, ok := describe(int(sys.FD(file)))
	if !ok || is.Kind != name.Kind {
		return p, false
	}
	at, err := netip.ParseAddrPort(is.Addr)
	if err != nil {
		return p, false
	}
	p = spot{network: is.Network, at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}
	p.both = at.Addr().Is6() && at.Addr().IsUnspecified() && !isV6Only(int(sys.FD(file)))
	return p, true
}

// spot is where an open socket is.
func (r *Socket) spot() (p spot, ok bool) {
	switch a := r.local.(type) {
	case *net.TCPAddr:
		p = spot{network: "tcp", at: a.AddrPort()}
	case *net.UDPAddr:
		p = spot{network: "udp", at: a.AddrPort()}
	default:
		return p, false
	}
	ip := p.at.Addr()
	p.at = netip.AddrPortFrom(ip.Unmap().WithZone(""), p.at.Port())
	p.both = ip.Is6() && ip.IsUnspecified() && !strings.HasSuffix(r.Network, "6")
	return p, r.Network != sdnotify.Network
}

// covers reports whether a wildcard gets all clients of another socket, once nobody listens there.
func (p spot) covers(other spot) bool {
	if p.path != "" || p.network != other.network || p.at.Port() != other.at.Port() || !p.at.Addr().IsUnspecified() {
		return false
	}
	return p.both || !other.both && p.at.Addr().Is4() == other.at.Addr().Is4()
}

// overlaps reports whether two sockets share a port and clients.
func (p spot) overlaps(other spot) bool {
	return p == other && p.path == "" || p.covers(other) || other.covers(p) ||
		(p.both || other.both) && p.network == other.network && p.at.Port() == other.at.Port() && p.at.Addr().IsUnspecified() && other.at.Addr().IsUnspecified()
}

// order is what name has added to an address.
func order(addr string) string {
	_, order, _ := strings.Cut(addr, "#")
	return order
}

// find returns what has come under a name, or the same socket under another one. Without either it has the name only.
func (s *Set) find(name wire.SocketName) received {
	r, ok := s.fds.(*Received)
	if !ok {
		return received{name: name}
	}
	if came, left := r.named(name); came.file != nil || left == 0 {
		return came
	}
	want, ok := spotOf(name)
	if !ok {
		return received{name: name}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range r.files {
		if at, ok := r.files[i].spot(); ok && at == want && f.name.Kind == name.Kind && order(f.name.Addr) == order(name.Addr) {
			return f
		}
	}
	return received{name: name}
}

// spot is where it is. The lock of Received is held.
func (f *received) spot() (p spot, ok bool) {
	if f.at == nil {
		p, _ = spotted(f.name, f.file)
		f.at = &p
	}
	return *f.at, f.at.network != ""
}

// named returns what has come under exactly this name, and how many sockets there are.
func (r *Received) named(name wire.SocketName) (f received, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if f.name == name {
			return f, len(r.files)
		}
	}
	return received{name: name}, len(r.files)
}

// takeKept takes a socket that an earlier process had kept under the name of another spelling. It returns the name that it is kept under.
func (s *Set) takeKept(name wire.SocketName) (sock any, kept string, err error) {
	if !s.supported() || !s.passed.HasKept() {
		return nil, "", nil
	}
	want, ok := spotOf(name)
	if !ok {
		return nil, "", nil
	}
	return s.passed.TakeKept(name.Kind, func(f *os.File) bool {
		is, ok := describe(int(sys.FD(f)))
		if !ok || order(f.Name()) != order(name.Addr) {
			return false
		}
		at, ok := spotted(is, f)
		return ok && at == want
	})
}

// alias makes connections of a listener that has another name in an older generation come out of this one.
func (s *Set) alias(names []wire.SocketName, r *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		if n != r.socketName() {
			if s.aliases == nil {
				s.aliases = map[wire.SocketName]*Socket{}
			}
			s.aliases[n] = r
		}
	}
}

// behind returns the open listener that stands for a name of an older generation, or nil. The lock is held.
func (s *Set) behind(network, addr string) *Socket {
	r := s.aliases[wire.SocketName{Kind: "listener", Network: network, Addr: addr}]
	if r == nil || r.Closed() {
		return nil
	}
	return r
}

// others are the names that a listener has in an older generation. The lock is held.
func (s *Set) others(network, addr string) (names []wire.SocketName) {
	for n, r := range s.aliases {
		if r.Network == network && r.Addr == addr && n.Kind == "listener" {
			names = append(names, n)
		}
	}
	return names
}
