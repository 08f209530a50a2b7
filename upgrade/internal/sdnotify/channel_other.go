//go:build !linux

package sdnotify

import (
	"errors"
	"net"
)

func isChannel(int) bool { return false }

func receive(*net.UnixConn) (Message, error) { return Message{}, errors.ErrUnsupported }

func hungUp(uintptr) bool { return true }
