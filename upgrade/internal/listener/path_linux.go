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

// hiddenMark is in each second name, between the name of the socket and 16 random digits.
const hiddenMark = ".midair-"

// hiddenPrefix is how the second names of a path begin.
func hiddenPrefix(path string) string { return "." + filepath.Base(path) + hiddenMark }

// isHidden reports whether a name looks like a second name of path.
func isHidden(path, name string) bool {
	digits, ok := strings.CutPrefix(name, hiddenPrefix(path))
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 8
}

// readHidden lists the names in a directory with the form of a second name.
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

// beside is the path of another name in the directory of path.
func beside(path, name string) string { return filepath.Join(filepath.Dir(path), name) }

// keepPath gives the file of a new socket a second name, and removes the second names of killed processes. The file is known by
// device and inode, which no other file gets while the socket lives, also if no second name can be made.
func keepPath(path string, hidden map[string]bool) (wire.PathLink, error) {
	for name := range hidden {
		if old := beside(path, name); isHidden(path, name) && refuses(old) {
			_ = os.Remove(old) // one that stays is found the next time
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return wire.PathLink{}, cmp.Or(err, error(unix.ENOTSOCK))
	}
	return link(path, &st)
}

// link makes a new second name.
func link(path string, st *unix.Stat_t) (wire.PathLink, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	l := wire.PathLink{Name: hiddenPrefix(path) + hex.EncodeToString(random[:]), Dev: uint64(st.Dev), Ino: st.Ino}
	return l, os.Link(path, beside(path, l.Name))
}

// findPath finds the file of a socket that came without its second name: the kernel says to which file the socket was bound.
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

// isFile reports whether a path is a name of the socket's file.
func isFile(path string, l wire.PathLink) bool {
	var st unix.Stat_t
	return l.Ino != 0 && unix.Lstat(path, &st) == nil && st.Ino == l.Ino && uint64(st.Dev) == l.Dev
}

// leadsTo is isFile for a client that connects: through symbolic links.
func leadsTo(path string, l wire.PathLink) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Ino == l.Ino && uint64(st.Dev) == l.Dev
}

// isKept reports whether a socket has its second name.
func isKept(path string, l wire.PathLink) bool {
	return l.Name != "" && isFile(beside(path, l.Name), l)
}

// dropLink removes the second name.
func dropLink(path string, l wire.PathLink) {
	if isKept(path, l) {
		_ = os.Remove(beside(path, l.Name)) // one that stays is found when somebody listens there again
	}
}

// putPathBack makes path a name of the socket's file again if nothing is there, or a socket that no process holds, and returns
// what was there. It never replaces anything else.
func putPathBack(path string, l wire.PathLink) (found string, err error) {
	for range 4 { // somebody else may do the same, or listen there
		_, err = os.Lstat(path)
		absent := errors.Is(err, fs.ErrNotExist)
		switch {
		case err != nil && !absent: // a directory that this process may not look into, where others connect all the same
			return "", nil
		case l.Ino == 0 && absent: // there is nothing to compare with either
			return "", errors.New("its path was removed, and nothing is kept from which it could be put back: stop the service and start it")
		case l.Ino == 0:
			return found, nil
		case !absent && leadsTo(path, l):
			if !isKept(path, l) && isFile(path, l) { // the second name was removed, or became the path
				_ = os.Link(path, beside(path, l.Name)) // without it the path cannot be put back the next time
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

// place makes a hard link at a path where nothing is. The file of another user cannot get one more link
// (fs.protected_hardlinks): then the second name is renamed.
func place(path, kept string) error {
	err := os.Link(kept, path)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, kept, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: kept, New: path, Err: err}
	}
	return nil
}

// refuses reports whether a path is a socket that no process holds. It asks with a socket for datagrams: a listener for
// connections refuses a datagram by another error, and has no connection to accept. The file is held open, so that the question
// goes to the file that was looked at.
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
