// Package inherited makes the descriptors that a process has inherited for an upgrade close-on-exec, before any other code of
// the program runs. So no process that the program starts inherits these descriptors, whether it is started by an init of
// another package, by main before upgrade.New, or later.
//
//	a started candidate         3 and 4, tableflip's pipes; from 5 on the passed files, control socket, a script's own file
//	started by the supervisor   from 3 on listening sockets, the build for Rollback, the channel, a script's own file
//	started by systemd          the sockets of LISTEN_FDS, if LISTEN_PID is this process
//
// The package must import no other package than syscall. The reason is the order in which Go initialises packages: in the order
// of their import paths, each package as soon as its imports are initialised. Package inherited imports syscall only, and its
// path sorts before "internal/poll". Package os imports internal/poll, and package os/exec imports os. So the init of any
// package can start a process by os or os/exec only after the init of package inherited has run. Three kinds of processes can
// still inherit the descriptors. The first are started by a constructor of C code. The second are started by a wrapper script
// before it executes the program. The third are started by package syscall, in the init of a package whose path sorts before
// the path of package inherited. docs/security.md lists these cases for users.
package inherited

const (
	// Sentinel is a variable of the environment that marks a child. tableflip and package process set it when they start a
	// child.
	Sentinel = "TABLEFLIP_HAS_PARENT_7DIU3"
	// ChannelEnv is the variable with the number of the channel's descriptor, in a process that the supervisor has started.
	ChannelEnv = "MIDAIR_CHANNEL"

	first = 3 // the first descriptor after the standard descriptors
)

// IsChannel reports whether a descriptor is an end of a socket pair that the parent of this process has made. On other systems
// than Linux the result is false.
func IsChannel(fd int) bool { return isChannel(fd) }
