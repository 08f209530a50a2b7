package listener

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// refuses finds out whether a process holds the socket at a path. It makes no connection that the process would have to accept.
func TestAskingASocketMakesNoConnection(t *testing.T) {
	path := socketPath(t)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	gram, err := net.ListenPacket("unixgram", path+"g")
	if err != nil {
		t.Fatal(err)
	}
	defer gram.Close()
	if err := os.WriteFile(path+"f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, path+"l"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "g", path + "f", path + "l", path + "nothing"} {
		if refuses(p) {
			t.Errorf("%s is taken for a socket that nobody holds", p)
		}
	}
	if err := ln.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := ln.Accept(); err == nil {
		c.Close()
		t.Error("there is a connection")
	}
	ln.Close()
	if !refuses(path) || refuses(path+"l") {
		t.Error("a socket that nobody holds is not known, or a link to it is")
	}
}

// The kernel reports to which file a socket is bound, even if the path was removed. So findPath finds the second name of a
// socket that came without it, or makes a new second name.
func TestSocketFindsItsFile(t *testing.T) {
	for name, network := range map[string]string{"listener": "unix", "packet": "unixgram"} {
		path := socketPath(t)
		old, _ := newSet(t, nil)
		if name == "listener" {
			listen(t, old, network, path, false)
		} else {
			listenPacket(t, old, network, path)
		}
		link := old.Refs()[0].link
		for _, kept := range []bool{true, false} {
			if !kept {
				dropLink(path, link)
			} else if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			next, _ := newSet(t, old)
			if name == "listener" {
				listen(t, next, network, path, false)
			} else {
				listenPacket(t, next, network, path)
			}
			got := next.Refs()[0].link
			if got.Ino != link.Ino || got.Dev != link.Dev || kept != (got.Name == link.Name) || !isKept(path, got) || !isFile(path, got) {
				t.Errorf("%s, second name kept %v: %+v, before %+v", network, kept, got, link)
			}
		}
	}
}

// If the kernel's answer is an error, another message or only a part of the answer, readBoundFile returns an error.
func TestAnswerWithoutAFile(t *testing.T) {
	if _, err := boundFile(1); err == nil {
		t.Error("what is no socket has a file")
	}
	order := binary.NativeEndian
	b := order.AppendUint32(nil, 16+16+12)
	b = append(b, make([]byte, 28)...)
	b = order.AppendUint16(b, 12)
	b = order.AppendUint16(b, unixDiagVFS)
	b = order.AppendUint64(b, 0x0000000200000001)
	if f, err := readBoundFile(b); err != nil || f == (vfsFile{}) {
		t.Errorf("%+v, %v", f, err)
	}
	for n := range b {
		if f, err := readBoundFile(b[:n]); err == nil {
			t.Errorf("%d bytes: %+v", n, f)
		}
	}
	for _, size := range []uint16{0, 3, 11, 13, 0xffff} {
		bad := slices.Clone(b)
		order.PutUint16(bad[32:], size)
		if f, err := readBoundFile(bad); err == nil {
			t.Errorf("an attribute of %d bytes: %+v", size, f)
		}
	}
}

// isHidden is true only for second names of the same path that this library has made.
func TestHiddenNamesAreRecognised(t *testing.T) {
	var st unix.Stat_t
	path := socketPath(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := link(path, &st)
	if err != nil || !isHidden(path, l.Name) || isHidden(path+"2", l.Name) || !slices.Contains(readHidden(filepath.Dir(path)), l.Name) {
		t.Errorf("%+v, %v", l, err)
	}
	for _, name := range []string{"s", ".s", ".s.midair-", ".s.midair-0", ".s.midair-0123456789abcdeg", ".s.midair-0123456789abcdef0", "s.midair-0123456789abcdef"} {
		if isHidden(path, name) {
			t.Errorf("%q is taken for one", name)
		}
	}
}

// If a second name leads to another file by now, it is neither used nor removed. Without a second name, everything else works.
func TestForeignSecondNameIsNotUsed(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	ln := listen(t, s, "unix", path, false)
	link := s.Refs()[0].link
	planted := beside(path, link.Name)
	if err := os.Remove(planted); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", planted)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := s.PutBack(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.PutBack(); err == nil || exists(path) {
		t.Errorf("%v; there is a path: %v", err, exists(path))
	}
	s.UnlinkOnClose(true)
	ln.Close()
	if !exists(planted) {
		t.Error("the other file was removed")
	}
	removePath(path, wire.PathLink{}) // the file of the socket is not known, and no file is at path
}

// If a second name came with a socket, it is used without asking the kernel. The socket may have come over the control socket
// or at exec.
func TestSecondNameComesWithTheSocket(t *testing.T) {
	for _, atExec := range []bool{true, false} {
		old, _ := newSet(t, nil)
		path := socketPath(t)
		listen(t, old, "unix", path, false)
		names := old.Paths()
		came := old.Links(names)
		if err := os.Rename(beside(path, came[0].Name), beside(path, "other")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		came[0].Name = "other"
		var next *Set
		if atExec {
			next, _ = newSet(t, old)
			next.NoteLinks(names, came)
		} else {
			next, _ = newSet(t, nil)
			handOn(t, old, next).NoteLinks(names, came)
		}
		ln := listen(t, next, "unix", path, false)
		if got := next.Links(names); !slices.Equal(got, came) || !isFile(path, came[0]) {
			t.Errorf("%+v, want %+v; the path is back: %v", got, came, exists(path))
		}
		next.UnlinkOnClose(true)
		if ln.Close(); exists(path) || exists(beside(path, "other")) {
			t.Error("the names outlive the socket")
		}
	}
}

// If a socket is closed and opened again at the same path, the new socket has another file. So it gets a new second name, even
// if the earlier socket came with a second name.
func TestReopenedSocketHasItsOwnSecondName(t *testing.T) {
	old, _ := newSet(t, nil)
	path := socketPath(t)
	listen(t, old, "unix", path, false)
	names := old.Paths()
	next, _ := newSet(t, nil)
	handOn(t, old, next).NoteLinks(names, old.Links(names))
	next.UnlinkOnClose(true)
	listen(t, next, "unix", path, false).Close()
	listen(t, next, "unix", path, false)
	if err := next.PutBack(); err != nil {
		t.Errorf("the next upgrade would fail: %v", err)
	}
	if l := next.Links(names)[0]; !isFile(path, l) || !isKept(path, l) {
		t.Errorf("%+v is not the second name of the socket", l)
	}
}

// A relative path means the directory where the socket was opened, even if the process changes its directory later.
func TestRelativePathOutlivesChdir(t *testing.T) {
	path := socketPath(t)
	t.Chdir(filepath.Dir(path))
	s, _ := newSet(t, nil)
	ln := listen(t, s, "unix", filepath.Base(path), false)
	t.Chdir(t.TempDir())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.PutBack(); err != nil || !exists(path) {
		t.Errorf("%v; the path is back: %v", err, exists(path))
	}
	s.UnlinkOnClose(true)
	if ln.Close(); exists(path) {
		t.Error("the path is left")
	}
}
