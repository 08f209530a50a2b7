package listener

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Constants of sock_diag(7) that are not in package unix.
const (
	sockDiagByFamily = 20
	udiagShowVFS     = 2
	unixDiagVFS      = 1
)

// vfsFile identifies a file by the numbers in the kernel's struct unix_diag_vfs. ino has only the low 32 bits of the inode.
type vfsFile struct{ ino, dev uint32 }

// is reports whether st, a result of stat, describes the same file. On some file systems (overlayfs, btrfs) the result is
// always false, because stat and the kernel's answer have different numbers.
func (f vfsFile) is(st *unix.Stat_t) bool {
	dev := uint64(st.Dev)
	return st.Mode&unix.S_IFMT == unix.S_IFSOCK && uint32(st.Ino) == f.ino && unix.Major(dev)<<20|unix.Minor(dev) == f.dev
}

// boundFile asks the kernel for the file to which a unix socket is bound. inode is the inode of the socket, and not of the
// file. The kernel knows the file even if the path of the file was removed or replaced.
func boundFile(inode uint64) (vfsFile, error) {
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return vfsFile{}, err
	}
	defer unix.Close(nl)
	order := binary.NativeEndian
	const length = unix.SizeofNlMsghdr + 24
	q := make([]byte, 0, length)
	q = order.AppendUint32(q, length)
	q = order.AppendUint16(q, sockDiagByFamily)
	q = order.AppendUint16(q, unix.NLM_F_REQUEST)
	q = append(q, make([]byte, 8)...) // sequence and port are zero
	q = append(q, unix.AF_UNIX, 0, 0, 0)
	q = order.AppendUint32(q, ^uint32(0)) // sockets in all states
	q = order.AppendUint32(q, uint32(inode))
	q = order.AppendUint32(q, udiagShowVFS)
	q = order.AppendUint64(q, ^uint64(0)) // no cookie
	if err := unix.Sendto(nl, q, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return vfsFile{}, err
	}
	var buf [4 << 10]byte
	n, _, err := unix.Recvfrom(nl, buf[:], unix.MSG_DONTWAIT) // MSG_DONTWAIT: the kernel has answered before Sendto returns
	if err != nil {
		return vfsFile{}, err
	}
	return readBoundFile(buf[:n])
}

// readBoundFile parses the kernel's answer to boundFile.
func readBoundFile(b []byte) (f vfsFile, err error) {
	order := binary.NativeEndian
	const about = 16 // the size of struct unix_diag_msg in bytes
	if len(b) < unix.SizeofNlMsghdr+4 {
		return f, errors.New("the answer is too short")
	}
	if order.Uint16(b[4:]) == unix.NLMSG_ERROR {
		return f, unix.Errno(-int32(order.Uint32(b[unix.SizeofNlMsghdr:])))
	}
	b = b[:min(len(b), int(order.Uint32(b)))]
	for b = b[min(len(b), unix.SizeofNlMsghdr+about):]; len(b) >= 4; {
		size, kind := int(order.Uint16(b)), order.Uint16(b[2:])
		if size < 4 || size > len(b) {
			break
		}
		if kind == unixDiagVFS && size >= 12 {
			return vfsFile{order.Uint32(b[4:]), order.Uint32(b[8:])}, nil
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return f, errors.New("the answer names no file")
}
