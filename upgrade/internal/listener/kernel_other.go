//go:build !linux

package listener

import (
	"errors"
	"net"
	"net/netip"
)

func setReusePort(int, bool) bool { return false }

func hasReusePort(int) bool { return false }

func isV6Only(int) bool { return false }

func detach(*net.TCPListener) {}

func beginListening(int) error { return errors.ErrUnsupported }

func listenAgain(int, string) {}

func bindTCP(net.ListenConfig, netip.AddrPort, bool) (any, error) { return nil, errors.ErrUnsupported }
