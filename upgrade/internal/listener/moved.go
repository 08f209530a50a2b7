package listener

import "net"

// Moved is a connection that another generation has accepted and passed to this process.
type Moved interface {
	// Origin returns the name of the listener that has accepted the connection.
	Origin() (network, addr string)
	// Plain returns the underlying connection of package net. After Plain only this process uses the connection. Plain returns
	// nil if bytes that came with the connection were not read yet.
	Plain() net.Conn
	// Abandon closes this process's descriptor of a connection that the program has not accepted.
	Abandon()
}

// abandon closes a connection that the program has not accepted. If another process has a descriptor of the connection, that
// process serves the client.
func abandon(c net.Conn) {
	if m, ok := c.(Moved); ok {
		m.Abandon()
		return
	}
	c.Close()
}
