package handoff

import (
	"slices"

	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Takes is which connections another process takes: the names of its listeners, and for each whether a connection may come with
// bytes to be read first. A listener with plain connections of package net cannot put bytes in front of them.
type Takes map[wire.SocketName]bool

// SendTakes sends another process the connections that this process takes.
func SendTakes(to *wire.Link, set *listener.Set) (err error) {
	for part, rest := set.Takes().Cut(); len(part.Listeners) > 0 && err == nil; part, rest = rest.Cut() {
		err = to.Send(wire.KindTakes, part)
	}
	return err
}

// Hear adds the content of a message.
func (t *Takes) Hear(f wire.Frame) error {
	var b wire.TakesBody
	if err := f.Decode(&b); err != nil {
		return err
	}
	if *t == nil {
		*t = Takes{}
	}
	for i, name := range b.Listeners {
		(*t)[name] = !slices.Contains(b.Plain, i)
	}
	return nil
}

// allow reports whether a connection may be passed, and sets the name of its listener in the other process: the own name, or
// one of the others.
func (t Takes) allow(about *wire.ConnBody, others ...wire.SocketName) bool {
	ahead, known := t[wire.SocketName{Kind: "listener", Network: about.Network, Addr: about.Addr}]
	for i := 0; !known && i < len(others); i++ {
		if ahead, known = t[others[i]]; known {
			about.Network, about.Addr = others[i].Network, others[i].Addr
		}
	}
	return known && (ahead || len(about.Ahead) == 0)
}
