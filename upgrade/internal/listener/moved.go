package listener

import "net"

// Moved is a connection that another generation has accepted and passed to this process.
type Moved interface {
	// Origin returns the name of the listener that has accepted the connection.
	Origin() (network, addr string)
	// Plain returns the underlying connection of package net. After this call only this process uses the connection. If bytes
	// that came with the connection are still unread, Plain returns nil and changes nothing.
	Plain() net.Conn
	// Abandon closes this process's descriptor. It is called if the program has not accepted the connection.
	Abandon()
}

// abandon closes a connection that the program has not accepted. If another process has a descriptor of a Moved, that process
// serves the client.
func abandon(c net.Conn) {
	if m, ok := c.(Moved); ok {
		m.Abandon()
		return
	}
	c.Close()
}
