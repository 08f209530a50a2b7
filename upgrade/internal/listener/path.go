package listener

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Most programs remove the path of their unix socket before they listen there. A candidate that does so removes the path on
// which the old process serves, and clients cannot connect to the socket any more. So the file of a socket gets a second name
// when the socket is bound: a hard link with a hidden name in the same directory. With this link the path is put back. The
// second name is passed from process to process with the socket, and is removed when the socket ends. Another file at the path
// is not replaced, unless that file belongs to a dead socket.

// paths puts back the paths of this process's unix sockets, and removes them when the sockets end.
type paths struct {
	log      *slog.Logger
	links    links                       // the second names of the received sockets
	listings map[string]listing          // by directory; the lock Set.opening guards the map
	remove   func(string, wire.PathLink) // is removePath, except in tests

	// using is locked while a path is made, put back or removed, so that a path that is being opened is never removed. A file
	// system may hang, so the loop of Run never waits for this lock.
	using    sync.Mutex
	removing sync.WaitGroup // the goroutines of removeLater
}

// removeLater calls fn, which removes paths, in a goroutine.
func (p *paths) removeLater(fn func()) {
	p.removing.Go(func() { // ReleaseAll waits for the end of fn
		p.using.Lock()
		defer p.using.Unlock()
		fn()
	})
}

// await waits until the removals that have begun are over.
func (p *paths) await() {
	p.removing.Wait()
	p.using.Lock()
	defer p.using.Unlock()
}

// links has the second names of sockets that another process has passed. The keys are the names of the sockets.
type links map[wire.SocketName]wire.PathLink

// note adds the second names of sockets. names has the names of the sockets, and came has the second names in the same order.
func (l links) note(names []wire.SocketName, came []wire.PathLink) {
	for i, c := range came[:min(len(came), len(names))] {
		if c.Ino != 0 {
			l[names[i]] = c
		}
	}
}

// hold tries to give the file of an opened socket a second name, and to make path lead to this file. It returns the second
// name. The argument name is the name by which another process has passed the socket. created is true if this process has bound
// the socket.
func (p *paths) hold(name wire.SocketName, path string, c syscall.Conn, created bool) (l wire.PathLink) {
	var err error
	came, ok := p.links[name]
	delete(p.links, name) // another socket that is opened later under this name has another file
	switch {
	case created:
		l, err = keepPath(path, p.hiddenNames(path))
	case ok:
		l = came
	default: // no second name came: from a service manager, or from a program that uses only tableflip
		raw, _ := c.SyscallConn() // after an error raw is nil, and findPath returns an error
		l, err = findPath(path, raw, p.hiddenNames(path))
	}
	if had, ok := p.listings[filepath.Dir(path)]; ok && l.Name != "" {
		had.hidden[l.Name] = true
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		p.log.Debug("upgrade: the path of a unix socket cannot be put back if it is removed", "path", path, "err", err)
	}
	if err := p.putBack(name.Network, path, l); err != nil { // only logged: the candidate's checks call PutBack
		p.log.Debug("upgrade: a unix socket cannot be reached", "err", err)
	}
	return l
}

// putBack makes path lead to the socket again. It does so if no file is at path, or if the file at path belongs to a dead
// socket, which no process holds. If clients still cannot connect to the socket, putBack returns an error with the reason.
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

// bringBack puts back the path of a unix socket that a service manager has passed to this process. It does nothing if a file is
// at the path. It is called before Activation.Take, which does not return a kept unix socket whose path does not exist.
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

// listing has the second names in a directory. at is the time when the directory was read.
type listing struct {
	at     time.Time
	hidden map[string]bool
}

// hiddenNames returns the names in the directory of path that look like second names. It reads a directory at most once in a
// second, because a program may open many sockets in the same directory one after the other.
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

// startPath returns the absolute path for addr. A relative addr begins at the directory in which this process and the older
// generation were started. This process may have changed its working directory since then.
func startPath(addr string) string {
	if filepath.IsAbs(addr) {
		return addr
	}
	return filepath.Join(process.StartDir(), addr)
}

// removeStale removes the path of a unix socket that a killed process has left, and reports whether it has removed the path.
// err is the error of binding. If it is not EADDRINUSE, removeStale does nothing. Otherwise it tries to connect to the path. If
// a process holds the socket, the connection is never refused, even while the process does not accept. So a refused connection
// shows that the path is stale.
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

// removeSocket removes the path of a unix socket, and reports success. It does not remove a file of another kind, which may
// have replaced the socket: connecting to a regular file is refused too. A symbolic link to a socket is such a file: this
// library has not made the link, and bind(2) makes no socket through a link.
func removeSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0 && os.Remove(path) == nil
}

// removePath removes the path and the second name of a socket that has ended. If another file is at path now, removePath does
// not remove that file. If l is empty, the file of the socket is not known. In this case removePath removes any socket at path.
func removePath(path string, l wire.PathLink) {
	if l.Ino == 0 {
		removeSocket(path)
		return
	}
	if isFile(path, l) {
		_ = os.Remove(path) // if this fails, the next process that listens at path replaces the file
	}
	dropLink(path, l)
}
