package listener

import (
	"net/netip"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// inheritedFDs returns the descriptors of the sockets that the old process has passed at exec. The keys are the inodes of the
// sockets. The descriptors have consecutive numbers from process.FirstPassed on.
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

// socketInode returns the inode of the socket with the descriptor fd. It returns 0 if fd is not a socket.
func socketInode(fd int) (inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return 0, err
	}
	return st.Ino, nil
}

// coverFDs replaces each descriptor in fds by /dev/null, if the descriptor still belongs to the socket with this inode. These
// descriptors are duplicates, which tableflip keeps until the process ends. tableflip has no call to close them, and the socket
// listens as long as there is a duplicate. coverFDs uses dup3 and not close, because an os.File of tableflip still owns the
// number of the descriptor.
func coverFDs(inode uint64, fds []int) {
	if len(fds) == 0 {
		return
	}
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

// describe returns the kind, the network and the address of the socket with the descriptor fd. ok is false if fd is no socket
// that Listen or ListenPacket could have opened.
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
