package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketPair makes the two ends of a control socket, both close-on-exec.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// streamPair makes two connected stream sockets, both close-on-exec.
func streamPair() (fds [2]int, err error) {
	fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fds, os.NewSyscallError("socketpair", err)
}

// memFile makes an anonymous file.
func memFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

const sealed = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// seal makes a memory file immutable, so that its reader need not fear a writer.
func seal(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealed); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

func checkSeal(f *os.File) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if seals&sealed != sealed {
		return fmt.Errorf("the file is not sealed (seals %#x)", seals)
	}
	return nil
}

// canRunDescriptor: /proc lets an open file be executed, whatever became of its name.
const canRunDescriptor = true

// openSelf opens the file that this process runs. O_PATH needs no right to read it.
func openSelf() (*os.File, error) {
	return os.OpenFile("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
}

// executableOf leads to the file that a process runs.
func executableOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/exe" }

// descriptorPath names an open file for a child of this process, from its own view or from that of any process.
func descriptorPath(fd uintptr, everywhere bool) string {
	of := "self"
	if everywhere {
		of = strconv.Itoa(os.Getpid())
	}
	return "/proc/" + of + "/fd/" + strconv.Itoa(int(fd))
}

// restoreName names this process after its program: one that was started from a descriptor is called by its number.
func restoreName() {
	var name [16]byte
	if unix.Prctl(unix.PR_GET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0) != nil {
		return
	}
	if _, bad := strconv.Atoi(unix.ByteSliceToString(name[:])); bad == nil {
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	}
}

// trySend sends a frame as one message, which is whole or not at all.
func (s *socket) trySend(b []byte, file *os.File) error {
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(fdOf(file)))
		defer runtime.KeepAlive(file)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) })
	return errors.Join(err, sent)
}

// readable tells whether something can be read, the end included, without taking it.
func readable(fd uintptr) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err != unix.EAGAIN && err != unix.EINTR
}

// mayWrite tells whether this process may change a directory, with the rights that it has now.
func mayWrite(dir string) bool {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
}

// catches tells whether a process handles a signal, or would be ended by it. A Go program always seems to. True if it
// cannot be found out.
func catches(pid int, sig syscall.Signal) bool {
	status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, mask, _ := strings.Cut(string(status), "\nSigCgt:")
	mask, _, _ = strings.Cut(mask, "\n")
	caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
	return err != nil || caught&(1<<(sig-1)) != 0
}

// inheritedFDs lists the sockets that the old process has passed, by inode. They have the first numbers, without a gap.
func inheritedFDs() map[uint64][]int {
	fds := map[uint64][]int{}
	for fd := firstPassed; ; fd++ {
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
