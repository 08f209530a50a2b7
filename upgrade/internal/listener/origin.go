package listener

import (
	"maps"
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
	number        int      // the listeners are numbered in the order in which they were opened
	Pinned        bool
	Others        []wire.SocketName // names in older generations: of this listener, and of listeners whose clients come here
}

// spot returns the spot that has the local address of the listener.
func (k *Origin) spot() (spot, bool) { return localSpot(k.local), k.local != nil }

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
	opened  int // how many listeners were noted so far
	known   map[address]*Origin
	bound   spots[*Origin]                // nil before the first call of at
	aliases map[wire.SocketName]*Socket   // the keys are names in older generations, the values are sockets of this process
	others  map[address][]wire.SocketName // the keys are names of this process, the values are names in older generations
}

// note adds a listener. If there is an earlier listener of the same name, note replaces it.
func (o *origins) note(r *Socket) {
	if r.kind != "listener" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil {
		o.known = map[address]*Origin{}
	}
	if old := o.known[r.address()]; old != nil {
		o.bound.remove(old)
	}
	o.opened++
	k := &Origin{Network: r.Network, Addr: r.Addr, local: r.local, number: o.opened, Pinned: r.pinned}
	o.known[r.address()] = k
	o.bound.add(k)
}

// alias notes the names that a socket has in older generations. If another process passes a connection for one of these names,
// Accept of r returns the connection.
func (o *origins) alias(names []wire.SocketName, r *Socket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.aliases == nil {
		o.aliases, o.others = map[wire.SocketName]*Socket{}, map[address][]wire.SocketName{}
	}
	for _, n := range names {
		if n == r.socketName() {
			continue
		}
		if old := o.aliases[n]; old != nil {
			o.others[old.address()] = slices.DeleteFunc(o.others[old.address()], func(o wire.SocketName) bool { return o == n })
		}
		o.aliases[n] = r
		if n.Kind == "listener" {
			o.others[r.address()] = append(o.others[r.address()], n)
		}
	}
}

// of returns the listener that has accepted a connection.
func (o *origins) of(c net.Conn) (Origin, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found *Origin
	if m, isMoved := c.(Moved); isMoved {
		found = o.byName(m.Origin())
	} else {
		found = o.at(c.LocalAddr())
	}
	if found == nil {
		return Origin{}, false
	}
	k := *found
	k.Others = slices.Clone(o.others[address{k.Network, k.Addr}])
	return k, true
}

// byName returns the listener with this name in this process or in an older generation, or nil. The caller holds the lock.
func (o *origins) byName(network, addr string) *Origin {
	if r := o.aliases[listenerName(network, addr)]; r != nil {
		return o.known[r.address()]
	}
	return o.known[address{network, addr}]
}

// at returns the listener that accepts connections with this local address, or nil. If several listeners do, at returns the last
// one: an address may have been opened several times. The caller holds the lock.
func (o *origins) at(local net.Addr) (last *Origin) {
	if o.bound == nil {
		o.bound = spotsOf(maps.Values(o.known))
	}
	for _, k := range o.bound.near(localSpot(local)) {
		if k.hasAccepted(local) && (last == nil || k.number > last.number) {
			last = k
		}
	}
	return last
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
