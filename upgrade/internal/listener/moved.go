package listener

import "net"

// Moved is a connection that another generation has accepted.
type Moved interface {
	// Origin names the listener that has accepted the connection.
	Origin() (network, addr string)
	// Plain returns the connection of package net below, which is this process's alone from then on; nil if something is to be
	// read from the connection first.
	Plain() net.Conn
	// Abandon closes this process's descriptor of the connection, which the program has not taken.
	Abandon()
}

// abandon closes a connection that the program has not taken. Another process with a descriptor of the connection serves the
// client.
func abandon(c net.Conn) {
	if m, ok := c.(Moved); ok {
		m.Abandon()
		return
	}
	c.Close()
}
