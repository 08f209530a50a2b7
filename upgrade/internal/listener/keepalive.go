package listener

import (
	"net"

	"github.com/midair-go/midair/internal/sys"
)

// keepAlive returns a function that sets the keep-alive of a connection to the values in c. Without this function, a listener
// made from a descriptor gives its connections package net's default of 15 seconds. keepAlive returns nil if c asks for the
// default.
func keepAlive(c net.ListenConfig, l *net.TCPListener) func(*net.TCPConn) {
	set := c.KeepAliveConfig
	switch {
	case set.Enable:
	case c.KeepAlive < 0:
		return func(t *net.TCPConn) { sys.CopyKeepAlive(t, l) } // copy the values that c.Control may have set on the listener
	case c.KeepAlive > 0:
		set = net.KeepAliveConfig{Enable: true, Idle: c.KeepAlive}
	default:
		return nil
	}
	return func(t *net.TCPConn) { _ = t.SetKeepAliveConfig(set) } // package net ignores this error too
}
