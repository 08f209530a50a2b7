package upgrade

import (
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// child is a process that was started as a candidate, with the link to it.
type child struct {
	*process.Child
	link *wire.Link
}

// startChild starts the program with all open sockets, a control socket, and what it needs to find the service manager.
func (u *Upgrader) startChild(p process.Program) (*child, error) {
	files, drop, err := u.listeners.Dup()
	if err != nil {
		return nil, err
	}
	defer drop()
	c, err := process.Start(p, u.manager.Environ(u.opts.environ()), files)
	if err != nil {
		return nil, err
	}
	sock, err := wire.NewSocket(c.Control)
	if err != nil {
		c.Kill()
		c.Close()
		return nil, err
	}
	l := wire.NewLink(sock)
	l.AllowMissing(true)
	return &child{Child: c, link: l}, nil
}

// close ends what belongs to a child that has died. It is not called after a commit.
func (c *child) close() {
	c.link.Close()
	c.Child.Close()
}
