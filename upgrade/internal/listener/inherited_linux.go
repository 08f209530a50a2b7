package listener

import (
	"net/netip"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// inheritedFDs lists the sockets that the old process has passed, by inode. Their descriptors have the first numbers, without a
// gap.
func inheritedFDs() map[uint64][]int {
	fds := map[uint64][]int{}
	for fd := process.FirstPassed; ; fd++ {
		switch inode, err := socketInode(fd); {
		case err != nil:
			return fds
		case inode != 0:
			fds[inode] = append(fds[inode], fd)
		}
	}
}

// socketInode returns the inode of a socket; 0 for a descriptor of another kind.
func socketInode(fd int) (inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return 0, err
	}
	return st.Ino, nil
}

// coverFDs puts /dev/null over those of the descriptors that still are the given socket. tableflip keeps a duplicate of each
// opened socket for as long as the process lives, with no call to drop the duplicate, and a duplicate keeps the socket
// listening. dup3 rather than close, because the os.File still owns the number.
func coverFDs(inode uint64, fds []int) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	for _, fd := range fds {
		if is, err := socketInode(fd); err == nil && is == inode {
			_ = unix.Dup3(null, fd, unix.O_CLOEXEC)
		}
	}
}

// describe names a descriptor, if it is a socket that Listen or ListenPacket could have opened.
func describe(fd int) (m wire.SocketName, ok bool) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return m, false
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	stream := err == nil && kind == unix.SOCK_STREAM && listens == 1
	if !stream && kind != unix.SOCK_DGRAM {
		return m, false
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return m, false
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return m, false
	}
	networks := map[bool]string{true: "tcp", false: "udp"}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		m.Addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		m.Addr = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		networks = map[bool]string{true: "unix", false: "unixgram"}
		m.Addr = a.Name
	}
	m.Kind = map[bool]string{true: "listener", false: "packet"}[stream]
	m.Network = networks[stream]
	return m, m.Addr != ""
}
