package listener

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// hiddenMark is the middle part of each second name. For a socket at /run/app.sock, a second name is for example
// ".app.sock.midair-0123456789abcdef": the last part is random.
const hiddenMark = ".midair-"

// hiddenPrefix returns the beginning of the second names for path.
func hiddenPrefix(path string) string { return "." + filepath.Base(path) + hiddenMark }

// isHidden reports whether name has the form of a second name for path.
func isHidden(path, name string) bool {
	digits, ok := strings.CutPrefix(name, hiddenPrefix(path))
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 8
}

// readHidden returns the names in a directory that look like second names.
func readHidden(dir string) (names []string) {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	for {
		part, err := f.Readdirnames(1000)
		for _, name := range part {
			if strings.HasPrefix(name, ".") && strings.Contains(name, hiddenMark) {
				names = append(names, name)
			}
		}
		if err != nil {
			return names
		}
	}
}

// beside returns the path of name in the directory of path.
func beside(path, name string) string { return filepath.Join(filepath.Dir(path), name) }

// keepPath gives the file of a new socket a second name. It also removes the second names that killed processes have left for
// path. If the hard link fails, the result still has the device and the inode of the file. They identify the file, because no
// other file gets the same numbers while the socket exists.
func keepPath(path string, hidden map[string]bool) (wire.PathLink, error) {
	for name := range hidden {
		if old := beside(path, name); isHidden(path, name) && refuses(old) {
			_ = os.Remove(old) // if this fails, the next keepPath tries again
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return wire.PathLink{}, cmp.Or(err, error(unix.ENOTSOCK))
	}
	return link(path, &st)
}

// link makes a new second name for the file at path.
func link(path string, st *unix.Stat_t) (wire.PathLink, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	l := wire.PathLink{Name: hiddenPrefix(path) + hex.EncodeToString(random[:]), Dev: uint64(st.Dev), Ino: st.Ino}
	return l, os.Link(path, beside(path, l.Name))
}

// findPath finds the second name of a socket when no process has sent the second name. It asks the kernel to which file the
// socket is bound, and looks for this file among the hidden names. If the file has no hidden name, and is still at path,
// findPath makes a new second name.
func findPath(path string, c syscall.RawConn, hidden map[string]bool) (wire.PathLink, error) {
	inode, err := inodeOf(c)
	if err != nil {
		return wire.PathLink{}, err
	}
	file, err := boundFile(inode)
	if err != nil {
		return wire.PathLink{}, fmt.Errorf("ask the kernel for the file of the socket: %w", err)
	}
	for name := range hidden {
		var st unix.Stat_t
		if isHidden(path, name) && unix.Lstat(beside(path, name), &st) == nil && file.is(&st) {
			return wire.PathLink{Name: name, Dev: uint64(st.Dev), Ino: st.Ino}, nil
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return wire.PathLink{}, fmt.Errorf("lstat %s: %w", path, err)
	}
	if !file.is(&st) {
		return wire.PathLink{}, fmt.Errorf("%s is not known to be the file of the socket", path)
	}
	return link(path, &st)
}

func inodeOf(c syscall.RawConn) (inode uint64, err error) {
	if c == nil {
		return 0, unix.ENOTSOCK
	}
	if failed := c.Control(func(fd uintptr) { inode, err = socketInode(int(fd)) }); failed != nil {
		return 0, failed
	}
	return inode, err
}

// isFile reports whether path is a name of the socket's file, which l describes. It does not follow a symbolic link at path.
func isFile(path string, l wire.PathLink) bool {
	var st unix.Stat_t
	return l.Ino != 0 && unix.Lstat(path, &st) == nil && st.Ino == l.Ino && uint64(st.Dev) == l.Dev
}

// leadsTo reports whether a client that connects to path reaches the socket's file, which l describes. It follows a symbolic
// link at path.
func leadsTo(path string, l wire.PathLink) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Ino == l.Ino && uint64(st.Dev) == l.Dev
}

// isKept reports whether the second name of a socket exists.
func isKept(path string, l wire.PathLink) bool {
	return l.Name != "" && isFile(beside(path, l.Name), l)
}

// dropLink removes the second name of a socket.
func dropLink(path string, l wire.PathLink) {
	if isKept(path, l) {
		_ = os.Remove(beside(path, l.Name)) // if this fails, keepPath removes the name when a process listens at path again
	}
}

// putPathBack makes path lead to the socket's file again. It does so if no file is at path, or if the file at path belongs to a
// dead socket, which no process holds. It never replaces another file. If putPathBack has changed path, found describes what
// was at path. Otherwise found is empty.
func putPathBack(path string, l wire.PathLink) (found string, err error) {
	for range 4 { // try again if another process changes the path at the same time
		_, err = os.Lstat(path)
		absent := errors.Is(err, fs.ErrNotExist)
		switch {
		case err != nil && !absent: // no error: this process cannot look into the directory, but perhaps clients can connect
			return "", nil
		case l.Ino == 0 && absent: // the file of the socket is not known
			return "", errors.New("its path was removed, and nothing is kept from which it could be put back: stop the service and start it")
		case l.Ino == 0:
			return found, nil
		case !absent && leadsTo(path, l):
			if !isKept(path, l) && isFile(path, l) { // the second name was removed, or place has renamed it to path
				_ = os.Link(path, beside(path, l.Name)) // if this fails, a later putPathBack cannot put the path back
			}
			return found, nil
		case !absent && refuses(path):
			found = "a socket that nobody holds"
			if err := os.Remove(path); err != nil {
				return "", fmt.Errorf("a socket that nobody holds is at its path by now, and this process may not remove it: %w: remove it, or stop the service and start it", err)
			}
		case !absent:
			return "", errors.New("something else is at its path by now: remove that, or stop the service and start it")
		}
		if found == "" {
			found = "removed"
		}
		if !isKept(path, l) {
			return "", errors.New("its path was removed, and no hard link to its file is left from which it could be put back: stop the service and start it")
		}
		if err = place(path, beside(path, l.Name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("its path was removed, and cannot be put back: %w: stop the service and start it", err)
		}
	}
	return "", cmp.Or(err, errors.New("its path changes all the time"))
}

// place makes path a hard link to the file of a socket, whose second name is at hidden. It fails if a file is at path. If the
// file belongs to another user, the kernel may refuse the link (fs.protected_hardlinks). Then place renames hidden to path.
func place(path, hidden string) error {
	err := os.Link(hidden, path)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, hidden, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: hidden, New: path, Err: err}
	}
	return nil
}

// refuses reports whether the file at path belongs to a dead socket, which no process holds. It tries to connect, and a dead
// socket returns ECONNREFUSED. It connects with a datagram socket, so that a living listener for streams gets no connection:
// the result is another error. The file is opened first, so that Fstat and Connect use the same file.
func refuses(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return false
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	return errors.Is(unix.Connect(s, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(fd)}), unix.ECONNREFUSED)
}
