package listener

import (
	"net"

	"github.com/midair-go/midair/internal/sys"
)

// keepAlive returns what gives a connection of a listener that has come from elsewhere the keep-alive of a configuration: package net
// has made the listener of a descriptor and gives its connections 15 seconds. nil: that is right.
func keepAlive(c net.ListenConfig, l *net.TCPListener) func(*net.TCPConn) {
	set := c.KeepAliveConfig
	switch {
	case set.Enable:
	case c.KeepAlive < 0:
		return func(t *net.TCPConn) { sys.CopyKeepAlive(t, l) } // what Control has set, if anything
	case c.KeepAlive > 0:
		set = net.KeepAliveConfig{Enable: true, Idle: c.KeepAlive}
	default:
		return nil
	}
	return func(t *net.TCPConn) { _ = t.SetKeepAliveConfig(set) } // as net does, which says nothing either
}
