package handoff

import (
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Takes has the names of another process's listeners. Connections of listeners with these names can be passed to the other
// process. The value is true if the listener also takes a connection with bytes ahead: bytes that its server reads before it
// reads from the socket. The value is false if the listener returns connections of package net, because no bytes can be put in
// front of such connections.
type Takes map[wire.SocketName]bool

// SendTakes sends another process the names of the listeners for which this process takes connections (KindTakes).
func SendTakes(to *wire.Link, set *listener.Set) (err error) {
	for part, rest := set.Takes().Cut(); len(part.Listeners) > 0 && err == nil; part, rest = rest.Cut() {
		err = to.Send(wire.KindTakes, part)
	}
	return err
}

// Hear adds the listeners in the received message f, which is of KindTakes.
func (t *Takes) Hear(f wire.Frame) error {
	var b wire.TakesBody
	if err := f.Decode(&b); err != nil {
		return err
	}
	if *t == nil {
		*t = Takes{}
	}
	for _, name := range b.Listeners {
		(*t)[name] = true
	}
	for _, i := range b.Plain {
		if i >= 0 && i < len(b.Listeners) {
			(*t)[b.Listeners[i]] = false
		}
	}
	return nil
}

// allow reports whether a connection may be passed to the other process. about has the name of the connection's listener, and
// others has more names of this listener. If t has only a name in others, allow writes this name into about.
func (t Takes) allow(about *wire.ConnBody, others ...wire.SocketName) bool {
	ahead, known := t[wire.SocketName{Kind: "listener", Network: about.Network, Addr: about.Addr}]
	for i := 0; !known && i < len(others); i++ {
		if ahead, known = t[others[i]]; known {
			about.Network, about.Addr = others[i].Network, others[i].Addr
		}
	}
	return known && (ahead || len(about.Ahead) == 0)
}
