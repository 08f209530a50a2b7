package sdnotify

import (
	"os"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// The channel is marked in init, so that neither main nor a package that is initialised later passes it to a process.
func init() {
	if fd := channelFD(); fd >= 0 {
		sys.CloseOnExec(fd)
	}
}

// isChannel reports whether a descriptor is one end of a pair that the parent of this process has made.
func isChannel(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return false
	}
	maker, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(maker.Pid) == os.Getppid()
}
