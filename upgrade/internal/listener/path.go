package listener

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Most programs remove the path of their unix socket before they listen there. In a candidate that is the path on which the old
// process serves, and nobody could connect to the socket any more. So the file of the socket gets a second name when the socket is
// bound, a hard link with a hidden name in the same directory, and the path is put back from that. The name passes from process to
// process with the socket, and is removed when the socket ends. A path where something else is by now is left alone.

// paths are the paths of the unix sockets of a process.
type paths struct {
	log      *slog.Logger
	links    links              // the second names of the sockets that have come
	listings map[string]listing // of directories; used while one socket at a time is opened
}

// links has the second names of sockets that another process has passed.
type links map[wire.SocketName]wire.PathLink

// note takes the second names that came with the names of sockets.
func (l links) note(names []wire.SocketName, came []wire.PathLink) {
	for i, c := range came[:min(len(came), len(names))] {
		if c.Ino != 0 {
			l[names[i]] = c
		}
	}
}

// hold makes sure that the file of an opened socket has a second name, and that path leads to the file.
func (p *paths) hold(name wire.SocketName, path string, c syscall.Conn, created bool) (l wire.PathLink) {
	var err error
	came, ok := p.links[name]
	delete(p.links, name) // what is opened there once more has another file
	switch {
	case created:
		l, err = keepPath(path, p.hiddenNames(path))
	case ok:
		l = came
	default: // from a service manager, or from a program that knows tableflip only
		raw, _ := c.SyscallConn() // findPath says so if there is none
		l, err = findPath(path, raw, p.hiddenNames(path))
	}
	if had, ok := p.listings[filepath.Dir(path)]; ok && l.Name != "" {
		had.hidden[l.Name] = true
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		p.log.Debug("upgrade: the path of a unix socket cannot be put back if it is removed", "path", path, "err", err)
	}
	if err := p.putBack(name.Network, path, l); err != nil { // the checks will say so
		p.log.Debug("upgrade: a unix socket cannot be reached", "err", err)
	}
	return l
}

// putBack makes path lead to the socket again if nothing is there, or a socket that no process holds. The error says why
// clients cannot connect.
func (p *paths) putBack(network, path string, l wire.PathLink) error {
	found, err := putPathBack(path, l)
	if err != nil {
		return fmt.Errorf("nobody can connect to the socket %s %s: %w", network, path, err)
	}
	if found != "" {
		p.log.Debug("upgrade: put the path of a unix socket back", "path", path, "was", found)
	}
	if found != "" && l.Ino != 0 && !isKept(path, l) {
		p.log.Warn("upgrade: the path of a unix socket cannot be put back again: this process may not make a hard link to its file", "path", path)
	}
	return nil
}

// bringBack puts the path of a socket back that a service manager has kept. A kept socket whose path is gone would not be
// taken.
func (p *paths) bringBack(path string, socket syscall.RawConn) {
	if _, err := os.Lstat(path); err == nil {
		return
	}
	link, err := findPath(path, socket, p.hiddenNames(path))
	if err == nil {
		_, err = putPathBack(path, link)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		p.log.Debug("upgrade: a unix socket that was kept cannot be reached", "path", path, "err", err)
	}
}

// listing is the content of a directory at a time.
type listing struct {
	at     time.Time
	hidden map[string]bool
}

// hiddenNames lists the names beside path with the form of a second name. Many sockets are opened one after the other, often in
// the same directory, which is read once for all of them.
func (p *paths) hiddenNames(path string) map[string]bool {
	dir := filepath.Dir(path)
	if l, ok := p.listings[dir]; ok && time.Since(l.at) < time.Second {
		return l.hidden
	}
	l := listing{at: time.Now(), hidden: map[string]bool{}}
	for _, name := range readHidden(dir) {
		l.hidden[name] = true
	}
	if p.listings == nil {
		p.listings = map[string]listing{}
	}
	p.listings[dir] = l
	return l.hidden
}

func hasPath(n wire.SocketName) bool {
	return strings.HasPrefix(n.Network, "unix") && !strings.HasPrefix(n.Addr, "@")
}

// startPath is the path that a name means: the older generation was started in the same directory, which this process may have
// left.
func startPath(addr string) string {
	if filepath.IsAbs(addr) {
		return addr
	}
	return filepath.Join(process.StartDir(), addr)
}

// removeStale removes the path of a unix socket that a killed process has left. A socket that a process holds never refuses,
// not even while the process does not accept.
func removeStale(network, addr string, err error) bool {
	if !strings.HasPrefix(network, "unix") || strings.HasPrefix(addr, "@") || !errors.Is(err, syscall.EADDRINUSE) {
		return false
	}
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED) && removeSocket(addr)
}

// removeSocket removes the path of a unix socket, and reports whether the path is removed. A file of another kind stays: connecting to
// a regular file is refused too, and a socket may have been replaced meanwhile.
func removeSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0 && os.Remove(path) == nil
}

// removePath removes the path of a socket that has ended, and its second name. Another file in place of the socket stays.
func removePath(path string, l wire.PathLink) {
	if l.Ino == 0 {
		removeSocket(path)
		return
	}
	if isFile(path, l) {
		_ = os.Remove(path) // a path that stays is replaced by the next process that listens there
	}
	dropLink(path, l)
}
