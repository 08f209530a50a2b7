// Package inherited marks what a process has inherited for an upgrade close-on-exec, before anything else of the program runs:
// a process that the program starts, from an init of another package, from main before upgrade.New or later, gets none of it.
//
//	a started candidate         3 and 4, tableflip's pipes; from 5 on the passed files, the control socket, a script's own file
//	started by the supervisor   from 3 on listening sockets, what Rollback would start, the channel, a script's own file
//	started by systemd          the sockets of LISTEN_FDS, if LISTEN_PID is this process
//
// It imports syscall and nothing else, and has to stay so. Go initialises packages in the order of their import paths, each
// as soon as what it imports is initialised. This one needs syscall only, and its path sorts before "internal/poll", which os
// needs, and so os/exec: whatever the path of a package is, its init can start a process by os or os/exec only after this one
// has run. What remains: an init of a package that starts a process with package syscall alone and whose path sorts before
// this one's, a constructor of C code, and what is no Go program yet: a wrapper script. docs/security.md lists them for users.
package inherited

const (
	// Sentinel is tableflip's variable of the environment, which says that a process was started as a child.
	Sentinel = "TABLEFLIP_HAS_PARENT_7DIU3"
	// ChannelEnv is the descriptor of the channel, in a process that the supervisor has started.
	ChannelEnv = "MIDAIR_CHANNEL"

	first = 3 // behind the standard descriptors
)

// IsChannel reports whether a descriptor is an end of a pair from the parent of this process. Elsewhere than on Linux the
// result is false.
func IsChannel(fd int) bool { return isChannel(fd) }
