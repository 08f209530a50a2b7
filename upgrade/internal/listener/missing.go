package listener

import (
	"strings"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Missing is a socket of the older generation that this version has not opened. If the older generation opened a socket late
// (see Begin), the socket does not count as missing, because this version may also open it late.
type Missing struct {
	wire.SocketName
	Local string // the address where the socket listens; empty unless the kernel has chosen the port
}

// String returns the network and the address of the name. If Local is not empty, String adds Local in parentheses.
func (m Missing) String() string {
	if m.Local == "" {
		return m.Network + " " + m.Addr
	}
	return m.Network + " " + m.Addr + " (" + m.Local + ")"
}

// Is reports whether the socket was opened with the address addr, or listens at addr.
func (m Missing) Is(addr string) bool {
	base, _, _ := strings.Cut(m.Addr, "#")
	return addr == m.Addr || addr == m.Local && addr != "" || addr == base && hasPort(base)
}

// missingNames returns the expected sockets that are not open.
func missingNames(expected, open []wire.SocketName) (missing []Missing) {
	has := asSet(open)
	for _, name := range expected {
		if !has[name] {
			missing = append(missing, Missing{SocketName: name})
		}
	}
	return missing
}
