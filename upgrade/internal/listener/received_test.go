//go:build unix

package listener

import (
	"os"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// handOn passes the sockets of one set to another set, as sockets that came over the control socket.
func handOn(t testing.TB, from, to *Set) *Received {
	t.Helper()
	files, _, err := from.Dup()
	if err != nil {
		t.Fatal(err)
	}
	r := NewReceived()
	for _, f := range files {
		name := wire.SocketName{Kind: f.Name[0], Network: f.Name[1], Addr: f.Name[2]}
		r.Add([]wire.SocketName{name}, []*os.File{os.NewFile(f.FD, "received")})
		if from.Own()[name] {
			r.MarkOwn([]wire.SocketName{name})
		}
	}
	to.Receive(r)
	return r
}

// A socket that came over the control socket is found by its name, and only once. No other descriptor of the socket stays: when
// the program closes the socket, clients are refused.
func TestReceivedSocketsAreTakenOnce(t *testing.T) {
	old, _ := newSet(t, nil)
	path := socketPath(t)
	first, second := listen(t, old, "tcp", "127.0.0.1:0", false), listen(t, old, "tcp", "127.0.0.1:0", false)
	listen(t, old, "unix", path, false)
	gram := listenPacket(t, old, "unixgram", path+"g")
	s, _ := newSet(t, nil)
	r := handOn(t, old, s)
	if r.Len() != 4 {
		t.Errorf("%d have come", r.Len())
	}
	next := listen(t, s, "tcp", "127.0.0.1:0", false)
	if next.Addr().String() != first.Addr().String() {
		t.Errorf("the first is at %v, want %v", next.Addr(), first.Addr())
	}
	if again := listen(t, s, "tcp", "127.0.0.1:0", false); again.Addr().String() != second.Addr().String() {
		t.Errorf("the second is at %v, want %v", again.Addr(), second.Addr())
	}
	if third := listen(t, s, "tcp", "127.0.0.1:0", false); third.Addr().String() == first.Addr().String() || third.Addr().String() == second.Addr().String() {
		t.Errorf("a third one is at %v", third.Addr())
	}
	listen(t, s, "unix", path, false)
	if pc := listenPacket(t, s, "unixgram", path+"g"); pc.LocalAddr().String() != gram.LocalAddr().String() || r.Len() != 0 {
		t.Errorf("%v, and %d are left", pc.LocalAddr(), r.Len())
	}
	first.Close()
	next.Close()
	if !refused(t, first) {
		t.Error("a descriptor keeps the socket listening")
	}
	s.ReleaseAll()
	if !exists(path) {
		t.Error("the path of a socket that the old process serves on was removed")
	}
}

// An unopened received socket listens until drop is called, the result of ClaimRest. drop also removes the path.
func TestReceivedAndNotOpenedEndsWithDrop(t *testing.T) {
	old, _ := newSet(t, nil)
	path := socketPath(t)
	ln, tcp := listen(t, old, "unix", path, false), listen(t, old, "tcp", "127.0.0.1:0", false)
	listen(t, old, "unix", path+"2", false)
	s, _ := newSet(t, nil)
	handOn(t, old, s)
	opened := listen(t, s, "unix", path+"2", false)
	drop := s.ClaimRest(nil)
	ln.Close()
	tcp.Close()
	if refused(t, ln) || refused(t, tcp) {
		t.Error("it has ended too early")
	}
	drop()
	s.AwaitRemoval()
	if !refused(t, tcp) || exists(path) {
		t.Errorf("something goes on to listen; the path is there: %v", exists(path))
	}
	if refused(t, opened) || !exists(path+"2") {
		t.Error("what was opened has ended too")
	}
}

// Add closes a file without a name, and ignores a name without a file.
func TestNamesAndFilesGoTogether(t *testing.T) {
	name := wire.SocketName{Kind: "listener", Network: "tcp", Addr: ":1"}
	r := NewReceived()
	extra, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Add(nil, []*os.File{extra})
	if sys.FD(extra) != ^uintptr(0) {
		t.Error("a file without a name is open")
	}
	r.Add([]wire.SocketName{name}, nil)
	if ln, err := r.Listener("tcp", ":1"); ln != nil || err != nil || r.Len() != 0 {
		t.Errorf("%v, %v", ln, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	r.Add([]wire.SocketName{name}, []*os.File{null})
	if ln, err := r.Listener("tcp", ":1"); ln != nil || err == nil {
		t.Errorf("what is no socket: %v, %v", ln, err)
	}
	r.Close()
}
