//go:build !linux

package listener

import "github.com/midair-go/midair/upgrade/internal/wire"

func inheritedFDs() map[uint64][]int { return nil }

// coverFDs does nothing: without /proc a duplicate cannot be found, so a listener ends with the process.
func coverFDs(uint64, []int) {}

// describe names nothing here: the names that were sent have to do.
func describe(int) (m wire.SocketName, ok bool) { return m, false }
