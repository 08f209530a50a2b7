//go:build !linux

package sdnotify

import (
	"errors"
	"net"
)

func receive(*net.UnixConn) (Message, error) { return Message{}, errors.ErrUnsupported }

func hungUp(uintptr) bool { return true }

func receiveInto(*net.UnixConn, []byte, int) (Message, error) {
	return Message{}, errors.ErrUnsupported
}
