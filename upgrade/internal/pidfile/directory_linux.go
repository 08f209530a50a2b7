package pidfile

import (
	"io/fs"
	"os"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// directory is an open directory: files are made and renamed there, whatever becomes of the path. O_PATH needs no right to
// read the directory.
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

// create makes a new file for writing, and fails if the name is taken, by a link too.
func (d *directory) create(name string) (*os.File, error) {
	fd, err := openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// rename gives a file another name, and replaces a file or link of the name. The target of the link stays.
func (d *directory) rename(from, to string) error {
	if err := unix.Renameat(d.fd, from, d.fd, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// remove removes a name, but not a directory.
func (d *directory) remove(name string) { _ = unix.Unlinkat(d.fd, name, 0) }

// look returns the entry of a name, without following a link.
func (d *directory) look(name string) (entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return entry{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	return entry{regular: kind == unix.S_IFREG, directory: kind == unix.S_IFDIR, uid: int(st.Uid)}, nil
}

// list opens the directory for its names.
func (d *directory) list() (*os.File, error) {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: ".", Err: err}
	}
	return os.NewFile(uintptr(fd), "."), nil
}

// openat is unix.Openat with a descriptor that is close-on-exec, and tried again when a signal has come in between.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// allocate takes room on the disk for the beginning of a file.
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
