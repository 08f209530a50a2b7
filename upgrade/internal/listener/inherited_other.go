//go:build !linux

package listener

import "github.com/midair-go/midair/upgrade/internal/wire"

func inheritedFDs() map[uint64][]int { return nil }

// coverFDs does nothing on this platform, because inheritedFDs returns no descriptors. So a socket of which tableflip keeps a
// duplicate listens until the process ends.
func coverFDs(uint64, []int) {}

// describe returns no name on this platform. Callers have to use the names that the old process has sent.
func describe(int) (m wire.SocketName, ok bool) { return m, false }
