//go:build !linux

package listener

import "github.com/midair-go/midair/upgrade/internal/wire"

// inheritedFDs lists the sockets that the old process has passed, by inode. Their descriptors have the first numbers, without a
// gap.
func inheritedFDs() map[uint64][]int { return nil }

// coverFDs puts /dev/null over those of the descriptors that still are the given socket. tableflip keeps a duplicate of each
// opened socket for as long as the process lives, with no call to drop the duplicate, and a duplicate keeps the socket
// listening. dup3 rather than close, because the os.File still owns the number.
func coverFDs(uint64, []int) {}

// describe says nothing: names have to do.
func describe(int) (m wire.SocketName, ok bool) { return m, false }
