package pidfile

import (
	"io/fs"
	"os"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// directory is an open directory. Files are made and renamed in this directory, even if another directory is later put at its
// path. The directory is opened with O_PATH, because O_PATH needs no permission to read the directory.
type directory struct{ fd int }

func openDirectory(path string) (*directory, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &directory{fd}, nil
}

func (d *directory) close() { _ = unix.Close(d.fd) }

// isAt reports whether path leads to this directory.
func (d *directory) isAt(path string) bool {
	var here, there unix.Stat_t
	return unix.Fstat(d.fd, &here) == nil && unix.Stat(path, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

// create makes a new file for writing. It fails if there is a file or a symbolic link with this name.
func (d *directory) create(name string) (*os.File, error) {
	fd, err := openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// rename renames a file. If the new name belongs to another file or to a symbolic link, rename replaces this file or link. It
// does not change the target of the link.
func (d *directory) rename(from, to string) error {
	if err := unix.Renameat(d.fd, from, d.fd, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// remove removes the file or the symbolic link with this name. It does not remove a directory.
func (d *directory) remove(name string) { _ = unix.Unlinkat(d.fd, name, 0) }

// look describes the file with this name. It describes a symbolic link and not the target of the link.
func (d *directory) look(name string) (entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return entry{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	return entry{regular: kind == unix.S_IFREG, directory: kind == unix.S_IFDIR, uid: int(st.Uid)}, nil
}

// list opens the directory for reading the names in the directory.
func (d *directory) list() (*os.File, error) {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: ".", Err: err}
	}
	return os.NewFile(uintptr(fd), "."), nil
}

// openat is unix.Openat with O_CLOEXEC. It tries again if a signal has interrupted the system call.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// allocate reserves room on the disk for the first size bytes of a file.
func allocate(f *os.File, size int) error {
	for {
		err := unix.Fallocate(int(sys.FD(f)), 0, 0, int64(size))
		switch err {
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS:
			return fill(f, size)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}
