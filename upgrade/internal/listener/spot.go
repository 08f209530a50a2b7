package listener

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A new version may spell an address in another way. For example, "localhost:80" and "127.0.0.1:80" mean the same socket, and
// so do two paths that lead to the same name in a directory. The new version takes such a socket over under the new name.
// Messages of another generation may use the old name, and still find the socket. For another address on the same port, see
// beside.go.

// spot is where a socket is bound, however its address is spelled. Two names mean the same socket if they have the same kind,
// the same spot and the same order (see the function order).
type spot struct {
	network string // tcp, udp, or the network of a unix socket
	at      netip.AddrPort
	both    bool   // the address is the wildcard address of IPv6, and the socket also gets the clients of IPv4
	path    string // the path of a unix socket
}

// spotOf returns the spot of a new socket with this name. It may ask a name server. ok is false if the host is not found, or if
// the address has port 0 or a zone.
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
	if !ip.IsValid() || ip.IsUnspecified() { // package net binds IPv4 and IPv6 if the network allows both
		ip, p.both = netip.IPv6Unspecified(), len(name.Network) == 3
		if strings.HasSuffix(name.Network, "4") {
			ip = netip.IPv4Unspecified()
		}
	}
	p.at = netip.AddrPortFrom(ip, p.at.Port())
	return p, true
}

// spotted returns the spot of an existing socket. file is the descriptor of the socket.
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

// covers reports whether p is a wildcard address that includes the other spot. If so, a socket at p gets all clients of the
// other spot as soon as no process listens there.
func (p spot) covers(other spot) bool {
	if p.path != "" || p.network != other.network || p.at.Port() != other.at.Port() || !p.at.Addr().IsUnspecified() {
		return false
	}
	return p.both || !other.both && p.at.Addr().Is4() == other.at.Addr().Is4()
}

// overlaps reports whether sockets at the two spots have the same port and could get the same clients. It is always false for
// unix sockets.
func (p spot) overlaps(other spot) bool {
	return p == other && p.path == "" || p.covers(other) || other.covers(p) ||
		(p.both || other.both) && p.network == other.network && p.at.Port() == other.at.Port() && p.at.Addr().IsUnspecified() && other.at.Addr().IsUnspecified()
}

// order returns the part of an address after the "#" that sockets.name adds. If there is no "#", the result is empty.
func order(addr string) string {
	_, order, _ := strings.Cut(addr, "#")
	return order
}

func hasPort(addr string) bool {
	_, _, err := net.SplitHostPort(addr)
	return err == nil
}

// hasNoPort reports whether the kernel chooses the port for addr: the port is 0 or empty. Several sockets can be opened with
// such an address.
func hasNoPort(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	return err == nil && (port == "0" || port == "")
}
