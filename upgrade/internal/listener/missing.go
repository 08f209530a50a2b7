package listener

import (
	"slices"
	"strings"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Missing is a socket of the older generation that this version has not opened. A socket that the older generation opened late
// (see Begin) does not count as missing, because this version may also open the socket late.
type Missing struct {
	wire.SocketName
	Local string // the address where the socket listens; empty unless the address in the name has port 0
}

// String returns the network and the address, as they are passed to Listen, and Local in parentheses if it is set.
func (m Missing) String() string {
	if m.Local == "" {
		return m.Network + " " + m.Addr
	}
	return m.Network + " " + m.Addr + " (" + m.Local + ")"
}

// Is reports whether the socket was opened with addr, or listens at addr.
func (m Missing) Is(addr string) bool {
	base, _, _ := strings.Cut(m.Addr, "#")
	return addr == m.Addr || addr == m.Local && addr != "" || addr == base && hasPort(base)
}

// missingNames returns the expected sockets that are not among the open sockets.
func missingNames(expected, open []wire.SocketName) (missing []Missing) {
	for _, name := range expected {
		if !slices.Contains(open, name) {
			missing = append(missing, Missing{SocketName: name})
		}
	}
	return missing
}
