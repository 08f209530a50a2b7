package listener

import (
	"net"

	"github.com/midair-go/midair/internal/sys"
)

// keepAlive returns a function that gives a connection the keep-alive of a configuration: a listener of a descriptor gives its
// connections package net's default of 15 seconds. It returns nil if the default is right.
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
