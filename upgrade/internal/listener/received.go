package listener

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Inheritor returns the sockets of an older generation. If the older generation does not have a socket, the methods return nil
// and no error. Received is the Inheritor for sockets that came over the control socket. Fds of tableflip is the Inheritor for
// sockets that were passed as files at exec: the process has inherited their descriptors.
type Inheritor interface {
	Listener(network, addr string) (net.Listener, error)
	PacketConn(network, addr string) (net.PacketConn, error)
}

// Received holds the sockets that came over the control socket and that the program has not opened yet. Unlike Fds of
// tableflip, a Received keeps no duplicate of an opened socket.
type Received struct {
	mu    sync.Mutex
	files []*received                     // in the order in which they came, with those that were taken
	named map[wire.SocketName][]*received // the sockets that were not taken
	left  int                             // the number of sockets that were not taken
	bound func() spots[*received]         // all sockets, with those that were taken
	links links
}

// received is a received socket. A search that finds no socket returns a received with the name only: file is nil.
type received struct {
	name wire.SocketName
	file *os.File
	late bool // see MarkLate
	own  bool // see MarkOwn
	gone bool // the socket was taken

	once sync.Once // sets at, see the method spot
	at   *spot     // nil: the spot is not known
}

var _ Inheritor = (*Received)(nil)

// NewReceived returns an empty Received. It calls process.Carry, so that the linker puts a mark into the program's executable.
// By this mark, an older generation sees that the program takes its sockets from the control socket.
func NewReceived() *Received {
	process.Carry()
	r := &Received{links: links{}, named: map[wire.SocketName][]*received{}}
	r.bound = sync.OnceValue(func() spots[*received] { return spotsOf(slices.Values(r.all())) })
	return r
}

// Add adds received sockets to r, which owns the files from now on. names has the names of the files, in the same order. If
// there are more files than names, Add closes the other files. If there are more names, it ignores the other names. Add must
// not be called after a socket was searched.
func (r *Received) Add(names []wire.SocketName, files []*os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range files {
		if i < len(names) {
			one := &received{name: names[i], file: f}
			r.files, r.left = append(r.files, one), r.left+1
			r.named[one.name] = append(r.named[one.name], one)
		} else {
			f.Close()
		}
	}
}

// NoteLinks notes the second names of received sockets. came has the second names in the order of names.
func (r *Received) NoteLinks(names []wire.SocketName, came []wire.PathLink) {
	r.links.note(names, came)
}

// MarkOwn notes that this library has opened these sockets. So these sockets belong to no socket unit.
func (r *Received) MarkOwn(names []wire.SocketName) {
	r.mark(names, func(f *received) { f.own = true })
}

// MarkLate notes that the older generation has opened these sockets late. So the method missing leaves these sockets out,
// because this version may open them late too.
func (r *Received) MarkLate(names []wire.SocketName) {
	r.mark(names, func(f *received) { f.late = true })
}

func (r *Received) mark(names []wire.SocketName, set func(f *received)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		for _, f := range r.named[name] {
			set(f)
		}
	}
}

// Len returns the number of unopened sockets.
func (r *Received) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Listener takes the received listener with the given name out of r. It returns nil if there is no such listener.
func (r *Received) Listener(network, addr string) (net.Listener, error) {
	return open(r, wire.SocketName{Kind: "listener", Network: network, Addr: addr}, net.FileListener)
}

// PacketConn is Listener for packet sockets.
func (r *Received) PacketConn(network, addr string) (net.PacketConn, error) {
	return open(r, wire.SocketName{Kind: "packet", Network: network, Addr: addr}, net.FilePacketConn)
}

func open[T any](r *Received, name wire.SocketName, from func(*os.File) (T, error)) (sock T, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.named[name]) == 0 {
		return sock, nil
	}
	f := r.named[name][0]
	if sock, err = from(f.file); err != nil {
		return sock, err // the socket stays in r, so that the program may try again
	}
	f.file.Close()
	r.remove(f)
	return sock, nil
}

// remove notes that a socket was taken. The caller holds the lock.
func (r *Received) remove(f *received) {
	f.gone = true
	r.left--
	if same := r.named[f.name]; len(same) > 1 {
		r.named[f.name] = slices.DeleteFunc(same, func(o *received) bool { return o == f })
	} else {
		delete(r.named, f.name)
	}
}

// all returns the unopened sockets.
func (r *Received) all() []*received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.files), func(f *received) bool { return f.gone })
}

// near returns the unopened sockets whose spot may overlap with the given spot, see the method near of spots.
func (r *Received) near(want spot) []*received {
	some := r.bound().near(want)
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(some, func(f *received) bool { return f.gone })
}

// first returns the first unopened socket with exactly the given name. If there is no such socket, f has only the name. left is the
// number of all unopened sockets.
func (r *Received) first(name wire.SocketName) (f *received, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if same := r.named[name]; len(same) > 0 {
		return same[0], r.left
	}
	return &received{name: name}, r.left
}

// find returns the unopened socket with the given name, or else an unopened socket with the same spot (see spot.go) under
// another name. If there is no such socket, the result has only the name.
func (r *Received) find(name wire.SocketName) *received {
	if came, left := r.first(name); came.file != nil || left == 0 {
		return came
	}
	want, ok := spotOf(name)
	if !ok {
		return &received{name: name}
	}
	for _, f := range r.near(want) {
		if at, _ := f.spot(); at == want && f.name.Kind == name.Kind && order(f.name.Addr) == order(name.Addr) {
			return f
		}
	}
	return &received{name: name}
}

// eachOwn calls the function each for every received socket that this library has opened and that may overlap with the given
// spot.
func (r *Received) eachOwn(want spot, each func(name wire.SocketName, at spot, f *os.File)) {
	for _, f := range r.near(want) {
		if at, _ := f.spot(); f.own {
			each(f.name, at, f.file)
		}
	}
}

// missing returns the unopened sockets. It leaves out late sockets, and sockets for which the function covered returns true.
// covered reports whether an open socket will get the clients of the unopened socket.
func (r *Received) missing(covered func(*received) bool) (missing []Missing) {
	for _, f := range r.all() {
		if f.late || covered(f) {
			continue
		}
		m := Missing{SocketName: f.name}
		if base, _, _ := strings.Cut(f.name.Addr, "#"); hasNoPort(base) {
			if at, ok := describe(int(sys.FD(f.file))); ok {
				m.Local = at.Addr
			}
		}
		missing = append(missing, m)
	}
	return missing
}

// isOwnTCP reports whether f is a TCP listener that this library has opened.
func (f *received) isOwnTCP() bool {
	return f.own && f.name.Kind == "listener" && strings.HasPrefix(f.name.Network, "tcp")
}

func (f *received) hasNoPath() bool { return !hasPath(f.name) }

// spot returns where the socket is bound. It may ask a file system, which may hang.
func (f *received) spot() (at spot, known bool) {
	f.once.Do(func() {
		if at, ok := spotted(f.name, f.file); ok {
			f.at = &at
		}
	})
	if f.at == nil {
		return at, false
	}
	return *f.at, true
}

func anyReceived(*received) bool { return true }

// take takes unopened sockets out of r: those for which the function which returns true.
func (r *Received) take(which func(*received) bool) (taken []*received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if !f.gone && which(f) {
			r.remove(f)
			taken = append(taken, f)
		}
	}
	return taken
}

// Close closes the unopened sockets.
func (r *Received) Close() {
	for _, f := range r.take(anyReceived) {
		f.file.Close()
	}
}

func asSet(names []wire.SocketName) map[wire.SocketName]bool {
	set := make(map[wire.SocketName]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}
