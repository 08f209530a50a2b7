package listener

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Received holds the sockets that have come in the control socket and that this version has not opened yet. It is an Inheritor.
// Unlike tableflip's Fds, it keeps no duplicate of what it has handed out.
type Received struct {
	mu    sync.Mutex
	files []received
	links links
}

type received struct {
	name wire.SocketName
	file *os.File
	late bool // see MarkLate
	own  bool // see MarkOwn
	at   *spot
}

var _ Inheritor = (*Received)(nil)

// NewReceived returns an empty one. A program that can call it has the mark by which an older generation knows that the program
// takes its sockets like that.
func NewReceived() *Received {
	process.Carry()
	return &Received{links: links{}}
}

// Add takes over files, and names each. A file without a name is closed, and a name without a file is left out.
func (r *Received) Add(names []wire.SocketName, files []*os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range files {
		if i < len(names) {
			r.files = append(r.files, received{name: names[i], file: f})
		} else {
			f.Close()
		}
	}
}

// NoteLinks takes the second names of the sockets that have come.
func (r *Received) NoteLinks(names []wire.SocketName, came []wire.PathLink) {
	r.links.note(names, came)
}

// Len is how many there are.
func (r *Received) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.files)
}

// Listener returns the listener of that name, and nil if it is not there.
func (r *Received) Listener(network, addr string) (net.Listener, error) {
	return open(r, wire.SocketName{Kind: "listener", Network: network, Addr: addr}, net.FileListener)
}

// PacketConn is Listener for datagrams.
func (r *Received) PacketConn(network, addr string) (net.PacketConn, error) {
	return open(r, wire.SocketName{Kind: "packet", Network: network, Addr: addr}, net.FilePacketConn)
}

func open[T any](r *Received, name wire.SocketName, from func(*os.File) (T, error)) (sock T, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.files, func(f received) bool { return f.name == name })
	if i < 0 {
		return sock, nil
	}
	if sock, err = from(r.files[i].file); err != nil {
		return sock, err // it may be there the next time
	}
	r.files[i].file.Close()
	r.files = slices.Delete(r.files, i, i+1)
	return sock, nil
}

// MarkOwn notes that no service manager has these.
func (r *Received) MarkOwn(names []wire.SocketName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := asSet(names)
	for i, f := range r.files {
		r.files[i].own = f.own || own[f.name]
	}
}

// all returns what was not opened.
func (r *Received) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.files)
}

// Close ends what was not opened, and removes the paths if unlink says that nobody else serves there.
func (r *Received) Close(unlink bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if unlink && hasPath(f.name) {
			removePath(startPath(f.name.Addr), r.links[f.name])
		}
		f.file.Close()
	}
	r.files = nil
}

func hasPath(n wire.SocketName) bool {
	return strings.HasPrefix(n.Network, "unix") && !strings.HasPrefix(n.Addr, "@")
}

// startPath is the path that a name means: the older generation was started in the same directory. This one may have left it.
func startPath(addr string) string {
	if filepath.IsAbs(addr) {
		return addr
	}
	return filepath.Join(process.StartDir(), addr)
}

// Receive makes the sockets available to listen, in place of those that tableflip has inherited.
func (s *Set) Receive(r *Received) { s.fds, s.paths.links = r, r.links }

// DropRest ends what has come in the control socket and was not opened, when nobody else serves on it.
func (s *Set) DropRest() {
	if r, ok := s.fds.(*Received); ok {
		for _, f := range r.takeTCP() {
			s.Empty(f)
		}
		r.Close(true)
	}
}

// takeTCP takes the listeners out whose queue may be emptied.
func (r *Received) takeTCP() (files []*os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = slices.DeleteFunc(r.files, func(f received) bool {
		tcp := f.own && f.name.Kind == "listener" && strings.HasPrefix(f.name.Network, "tcp")
		if tcp {
			files = append(files, f.file)
		}
		return tcp
	})
	return files
}
