package listener

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// tableflipKeeps makes a duplicate of socket i, as tableflip keeps one of an inherited socket. There is no free number below
// the descriptor.
func tableflipKeeps(t testing.TB, s *Set, i int) int {
	t.Helper()
	for {
		fd, err := unix.Dup(s.Refs()[i].fd) // the lowest number that is free
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		unix.CloseOnExec(fd)
		if fd >= process.FirstPassed {
			return fd
		}
	}
}

// After Close no descriptor of this process keeps the socket listening, although tableflip never closes its duplicate.
func TestClosedSocketHasNoDescriptorLeft(t *testing.T) {
	old, _ := newSet(t, nil)
	tcp, gone := listen(t, old, "tcp", "127.0.0.1:0", false), listen(t, old, "tcp", "127.0.0.1:0", false)
	kept := []int{tableflipKeeps(t, old, 0), tableflipKeeps(t, old, 0), tableflipKeeps(t, old, 1)}
	s, g := newSet(t, old)
	s.ClaimInherited()
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	for _, f := range g.taken {
		f.Close() // the duplicates in kept take the place of tableflip's
	}
	tcp.Close()
	if refused(t, ln) {
		t.Fatal("the new process does not serve")
	}
	ln.Close()
	if !refused(t, ln) {
		t.Error("a descriptor keeps the socket listening")
	}
	if refused(t, gone) {
		t.Error("another socket was closed too")
	}
	for _, fd := range kept[:2] {
		target, err := os.Readlink(descriptorOf(fd))
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || target != os.DevNull || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d is %s, flags %#x, %v", fd, target, flags, err)
		}
	}
}

// A socket that this version does not open ends when the old process has ended and drop is called. The waiting client gets an
// error then.
func TestUnopenedSocketEndsWithDrop(t *testing.T) {
	old, _ := newSet(t, nil)
	ln := listen(t, old, "unix", socketPath(t), false)
	next, g := newSet(t, old)
	key := [3]string{"listener", "unix", ln.Addr().String()}
	next.atExec = map[uint64][]int{old.Refs()[0].inode: {int(sys.FD(g.files[key]))}}
	client := dial(t, ln)
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	drop := next.ClaimRest(old.Paths())
	ln.Close()
	drop()
	if n, err := client.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client waits for ever: %d, %v", n, err)
	}
}

// If the number of a descriptor of tableflip belongs to another file by now, cover does not touch the file.
func TestReusedNumberIsLeftAlone(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	dup, err := sys.ConnFile(dial(t, other))
	if err != nil {
		t.Fatal(err)
	}
	defer dup.Close()
	free := int(sys.FD(dup)) + 1000
	s.atExec = map[uint64][]int{s.Refs()[0].inode: {int(sys.FD(dup)), free}}
	ln.Close()
	if inode, err := socketInode(int(sys.FD(dup))); err != nil || inode == 0 {
		t.Errorf("the file of another is covered: %d, %v", inode, err)
	}
	if _, err := socketInode(free); !errors.Is(err, syscall.EBADF) {
		t.Errorf("a free number is taken: %v", err)
	}
}

// If no descriptor is free, cover does nothing and does no harm.
func TestCoverNeedsADescriptor(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	fd := tableflipKeeps(t, s, 0)
	inode := s.Refs()[0].inode
	limitFiles(t)
	coverFDs(inode, []int{fd})
	if got, err := socketInode(fd); err != nil || got != inode {
		t.Errorf("%d, %v", got, err)
	}
	ln.Close()
}

// ClaimInherited notes only descriptors of sockets. The keys are inodes and not the numbers of the descriptors.
func TestInheritedSocketsAreNotedByInode(t *testing.T) {
	s, _ := newSet(t, nil)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	fd := tableflipKeeps(t, s, 0)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s.ClaimInherited()
	found := 0
	for inode, fds := range s.atExec {
		for _, n := range fds {
			if got, err := socketInode(n); err != nil || got != inode || inode == 0 {
				t.Errorf("descriptor %d is noted as %d, and is %d, %v", n, inode, got, err)
			}
			if n == fd && inode == s.Refs()[0].inode {
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("descriptor %d is noted %d times in %v", fd, found, s.atExec)
	}
}

// descriptorOf returns the path in /proc of a descriptor of this process.
func descriptorOf(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
