//go:build !linux

package listener

import (
	"errors"
	"net"
	"net/netip"
)

func setReusePort(int, bool) bool { return false }

func detach(*net.TCPListener) {}

func listenAgain(int, string) {}

func bindTCP(net.ListenConfig, string, netip.AddrPort) (any, error) {
	return nil, errors.ErrUnsupported
}
