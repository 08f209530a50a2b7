package listener

import (
	"github.com/midair-go/midair/internal/process"
	"golang.org/x/sys/unix"
)

// inheritedFDs lists the sockets that the old process has passed, by inode. They have the first numbers, without a gap.
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

// socketInode tells which socket a descriptor is; 0 if it is none.
func socketInode(fd int) (inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return 0, err
	}
	return st.Ino, nil
}

// coverFDs puts /dev/null over those of the descriptors that still are the given socket. tableflip keeps a duplicate of
// each socket that it handed out for as long as the process lives, with no call to drop it, and a duplicate keeps the
// socket listening. dup3 rather than close, because the os.File still owns the number.
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
