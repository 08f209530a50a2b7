//go:build !linux

package listener

import "github.com/midair-go/midair/upgrade/internal/wire"

func inheritedFDs() map[uint64][]int { return nil }

// coverFDs does nothing: without /proc the duplicates of a socket cannot be found. So a listener ends only when the process
// ends.
func coverFDs(uint64, []int) {}

// describe returns no name on this platform. Callers have to use the names that were sent.
func describe(int) (m wire.SocketName, ok bool) { return m, false }
