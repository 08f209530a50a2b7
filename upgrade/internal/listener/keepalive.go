package listener

import (
	"net"

	"github.com/midair-go/midair/internal/sys"
)

// keepAlive returns a function that sets the keep-alive of an accepted connection to the values in c. The function is needed if
// the listener l was made from a descriptor: package net then sets its default of 15 seconds. keepAlive returns nil if c asks
// for the default.
func keepAlive(c net.ListenConfig, l *net.TCPListener) func(*net.TCPConn) {
	set := c.KeepAliveConfig
	switch {
	case set.Enable:
	case c.KeepAlive < 0:
		return func(t *net.TCPConn) { sys.CopyKeepAlive(t, l) } // c.Control may have set other values on the listener
	case c.KeepAlive > 0:
		set = net.KeepAliveConfig{Enable: true, Idle: c.KeepAlive}
	default:
		return nil
	}
	return func(t *net.TCPConn) { _ = t.SetKeepAliveConfig(set) } // the error is ignored, as in package net
}
