package listener

import (
	"net"
	"slices"
	"sync"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Which listener a connection belongs to, for connections that change process: there they come out of the listener that
// has the same name.

// Origin is the name of a listener, and where the listener listens.
type Origin struct {
	Network, Addr string
	local         net.Addr
	Pinned        bool
	Others        []wire.SocketName // the names of the listener in an older generation
}

// hasAccepted compares where a listener and a connection are. An address may be a wildcard, a port is none.
func (k Origin) hasAccepted(local net.Addr) bool {
	a, ok1 := k.local.(*net.TCPAddr)
	b, ok2 := local.(*net.TCPAddr)
	if ok1 && ok2 {
		return a.Port == b.Port && (a.IP.Equal(b.IP) || a.IP.IsUnspecified() && k.hasFamily(a.IP, b.IP))
	}
	return k.local != nil && local != nil && !ok1 && !ok2 && k.local.String() == local.String()
}

// hasFamily reports whether a wildcard listener has connections of an address: a wildcard of IPv6 has the clients of IPv4 too,
// unless the network says otherwise.
func (k Origin) hasFamily(wildcard, ip net.IP) bool {
	is4 := ip.To4() != nil
	return is4 && k.Network != "tcp6" || !is4 && wildcard.To4() == nil
}

// origins are all listeners of this process, closed ones too: connections live longer than their listener.
type origins struct {
	mu      sync.Mutex
	known   []Origin
	aliases map[wire.SocketName]*Socket // names that listeners of this process have in an older generation
}

// note remembers a listener.
func (o *origins) note(r *Socket) {
	if r.kind != "listener" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = slices.DeleteFunc(o.known, func(old Origin) bool { return old.Network == r.Network && old.Addr == r.Addr })
	o.known = append(o.known, Origin{Network: r.Network, Addr: r.Addr, local: r.local, Pinned: r.pinned})
}

// alias makes connections of an older generation's listener come out of a listener that has another name here.
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

// of finds the listener that has accepted a connection.
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
	for _, k := range slices.Backward(o.known) { // the last one, if it was closed and opened again
		if isMoved && k.Network == network && k.Addr == addr || !isMoved && k.hasAccepted(local) {
			k.Others = o.others(k)
			return k, true
		}
	}
	return Origin{}, false
}

// others are the names of a listener in an older generation. The lock is held.
func (o *origins) others(k Origin) (names []wire.SocketName) {
	for n, r := range o.aliases {
		if r.Network == k.Network && r.Addr == k.Addr && n.Kind == "listener" {
			names = append(names, n)
		}
	}
	return names
}

// behind returns the open listener that stands for a name of an older generation, or nil.
func (o *origins) behind(network, addr string) *Socket {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.aliases[listenerName(network, addr)]
	if r == nil || r.Closed() {
		return nil
	}
	return r
}

// eachAlias calls each with the names that open listeners have in an older generation.
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
