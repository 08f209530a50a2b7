package listener

import (
	"net"
	"slices"
	"sync"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// This file finds the listener that has accepted a connection. When the connection moves to another process, the listener of
// the same name returns the connection there.

// Origin identifies the listener that has accepted a connection.
type Origin struct {
	Network, Addr string   // the name of the listener
	local         net.Addr // the address at which the listener listens
	Pinned        bool
	Others        []wire.SocketName // names in older generations: of this listener, and of listeners whose clients come here
}

// hasAccepted reports whether a connection with this local address can come from the listener. For TCP the ports must be equal,
// and the IP addresses must be equal unless the listener has a wildcard address. For other networks the whole addresses must be
// equal.
func (k Origin) hasAccepted(local net.Addr) bool {
	a, ok1 := k.local.(*net.TCPAddr)
	b, ok2 := local.(*net.TCPAddr)
	if ok1 && ok2 {
		return a.Port == b.Port && (a.IP.Equal(b.IP) || a.IP.IsUnspecified() && k.hasFamily(a.IP, b.IP))
	}
	return k.local != nil && local != nil && !ok1 && !ok2 && k.local.String() == local.String()
}

// hasFamily reports whether a listener with this wildcard address gets connections to ip. A listener with the wildcard address
// of IPv6 also gets the clients of IPv4, unless the network is tcp6.
func (k Origin) hasFamily(wildcard, ip net.IP) bool {
	is4 := ip.To4() != nil
	return is4 && k.Network != "tcp6" || !is4 && wildcard.To4() == nil
}

// origins has all listeners that this process has opened. It keeps closed listeners too, because connections may live longer
// than their listener.
type origins struct {
	mu      sync.Mutex
	known   []Origin
	aliases map[wire.SocketName]*Socket // the keys are names in older generations, the values are sockets of this process
}

// note adds a listener. If there is an earlier listener of the same name, note replaces it.
func (o *origins) note(r *Socket) {
	if r.kind != "listener" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = slices.DeleteFunc(o.known, func(old Origin) bool { return old.Network == r.Network && old.Addr == r.Addr })
	o.known = append(o.known, Origin{Network: r.Network, Addr: r.Addr, local: r.local, Pinned: r.pinned})
}

// alias notes the names that a socket has in older generations. If another process passes a connection for one of these names,
// Accept of r returns the connection.
func (o *origins) alias(names []wire.SocketName, r *Socket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range names {
		if n != r.socketName() {
			if o.aliases == nil {
				o.aliases = map[wire.SocketName]*Socket{}
			}
			o.aliases[n] = r
		}
	}
}

// of returns the listener that has accepted a connection.
func (o *origins) of(c net.Conn) (Origin, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m, isMoved := c.(Moved)
	var network, addr string
	if isMoved {
		network, addr = m.Origin()
	}
	if r := o.aliases[listenerName(network, addr)]; r != nil {
		network, addr = r.Network, r.Addr
	}
	local := c.LocalAddr()
	for _, k := range slices.Backward(o.known) { // the last listener first: an address may have been opened several times
		if isMoved && k.Network == network && k.Addr == addr || !isMoved && k.hasAccepted(local) {
			k.Others = o.others(k)
			return k, true
		}
	}
	return Origin{}, false
}

// others returns the names that the listener k has in older generations. The caller holds the lock.
func (o *origins) others(k Origin) (names []wire.SocketName) {
	for n, r := range o.aliases {
		if r.Network == k.Network && r.Addr == k.Addr && n.Kind == "listener" {
			names = append(names, n)
		}
	}
	return names
}

// byAlias returns the open listener of this process that had this name in an older generation, or nil.
func (o *origins) byAlias(network, addr string) *Socket {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.aliases[listenerName(network, addr)]
	if r == nil || r.Closed() {
		return nil
	}
	return r
}

// eachAlias calls the function each for every open listener and every name that the listener has in an older generation.
func (o *origins) eachAlias(each func(name wire.SocketName, r *Socket)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, r := range o.aliases {
		if r.kind == "listener" && !r.Closed() {
			each(name, r)
		}
	}
}

func listenerName(network, addr string) wire.SocketName {
	return wire.SocketName{Kind: "listener", Network: network, Addr: addr}
}
