package listener

import (
	"slices"
	"strings"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Missing is a socket of the older generation that this version has not opened. A late socket of the older generation, opened
// while it served, is not missing: this version may open such a socket late as well.
type Missing struct {
	wire.SocketName
	Local string // where the socket listens, if the name does not say that
}

// String is the network and the address, as Listen takes them, and where the socket listens.
func (m Missing) String() string {
	if m.Local == "" {
		return m.Network + " " + m.Addr
	}
	return m.Network + " " + m.Addr + " (" + m.Local + ")"
}

// Is reports whether the socket was opened with this address, or listens there.
func (m Missing) Is(addr string) bool {
	base, _, _ := strings.Cut(m.Addr, "#")
	return addr == m.Addr || addr == m.Local && addr != "" || addr == base && hasPort(base)
}

// missingNames lists the expected sockets that are not open.
func missingNames(expected, open []wire.SocketName) (missing []Missing) {
	for _, name := range expected {
		if !slices.Contains(open, name) {
			missing = append(missing, Missing{SocketName: name})
		}
	}
	return missing
}
