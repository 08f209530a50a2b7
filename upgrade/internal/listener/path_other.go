//go:build !linux

package listener

import (
	"errors"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// On platforms other than Linux, a path that was removed is not put back.

func readHidden(string) []string { return nil }

func keepPath(string, map[string]bool) (wire.PathLink, error) {
	return wire.PathLink{}, errors.ErrUnsupported
}

func findPath(string, syscall.RawConn, map[string]bool) (wire.PathLink, error) {
	return wire.PathLink{}, errors.ErrUnsupported
}

func isFile(string, wire.PathLink) bool { return false }

func isKept(string, wire.PathLink) bool { return false }

func dropLink(string, wire.PathLink) {}

func putPathBack(string, wire.PathLink) (string, error) { return "", nil }
