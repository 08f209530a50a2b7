package listener

import (
	"iter"
	"net"
	"net/netip"
)

// spots finds sockets by the spots where they are bound, without a search through all sockets. A socket that has no spot is not
// in spots. Few processes need spots, so it is made by spotsOf at the first search, and the methods of a nil spots do nothing.
type spots[T located] map[location]map[T]bool

// located is a socket whose spot is known if ok is true. The result of spot is always the same.
type located interface {
	comparable
	spot() (at spot, ok bool)
}

// location is an address, or a port without an IP address, or a path.
type location struct {
	network string
	at      netip.AddrPort
	path    string
}

func (p spot) location() location { return location{p.network, p.at, p.path} }

// port returns the location of all sockets with the same port.
func (p spot) port() location { return p.on(netip.Addr{}) }

// on returns the location with the same port and another IP address.
func (p spot) on(ip netip.Addr) location {
	return location{p.network, netip.AddrPortFrom(ip, p.at.Port()), p.path}
}

// spotsOf returns the spots of these sockets.
func spotsOf[T located](all iter.Seq[T]) spots[T] {
	s := spots[T]{}
	for sock := range all {
		s.add(sock)
	}
	return s
}

func (s spots[T]) add(sock T) {
	at, ok := sock.spot()
	if !ok || s == nil {
		return
	}
	for _, p := range []location{at.location(), at.port()} {
		if s[p] == nil {
			s[p] = map[T]bool{}
		}
		s[p][sock] = true
	}
}

func (s spots[T]) remove(sock T) {
	at, ok := sock.spot()
	if !ok || s == nil {
		return
	}
	for _, p := range []location{at.location(), at.port()} {
		if delete(s[p], sock); len(s[p]) == 0 {
			delete(s, p)
		}
	}
}

// near returns the sockets whose spot may be equal to the given spot or may overlap with it. These are the sockets with the same
// address and those with a wildcard address. For a wildcard address, these are all sockets with the same port.
func (s spots[T]) near(want spot) (some []T) {
	all := []location{want.location(), want.on(netip.IPv4Unspecified()), want.on(netip.IPv6Unspecified())}
	if want.at.Addr().IsUnspecified() {
		all = []location{want.port()}
	}
	for _, p := range all {
		for sock := range s[p] {
			some = append(some, sock)
		}
	}
	return some
}

// localSpot returns a spot for the local address of a listener or of a connection. For other networks than TCP, the path of the
// spot is the whole address.
func localSpot(local net.Addr) spot {
	switch a := local.(type) {
	case nil:
		return spot{}
	case *net.TCPAddr:
		at := a.AddrPort()
		return spot{network: "tcp", at: netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())}
	default:
		return spot{path: a.String()}
	}
}
