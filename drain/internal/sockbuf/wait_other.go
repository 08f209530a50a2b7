//go:build !linux

package sockbuf

import (
	"errors"
	"net"
)

// A Waiter waits until something can be read from a socket. Waiters exist only on Linux: they are needed to splice sockets, and
// package net does not splice on other systems.
type Waiter struct{}

// NewWaiter returns nil on this system.
func NewWaiter(net.Conn) *Waiter { return nil }

// Wait is not called on this system.
func (*Waiter) Wait() (int, error) { return 0, errors.ErrUnsupported }
