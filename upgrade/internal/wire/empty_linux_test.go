package wire

import (
	"os"
	"testing"
	"unsafe"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// A message without bytes looks like the end of the socket. The descriptors in such a message are closed.
func TestFilesOfAnEmptyMessageAreClosed(t *testing.T) {
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	here, err := NewSocket(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	defer theirs.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	before := testutil.OpenFDs()
	rights := unix.UnixRights(int(sys.FD(file)))
	msg := unix.Msghdr{Control: &rights[0]}
	msg.SetControllen(len(rights))
	// unix.Sendmsg would add a byte
	if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, sys.FD(theirs), uintptr(unsafe.Pointer(&msg)), 0); errno != 0 {
		t.Fatal(errno)
	}
	if n, files, err := here.Recv(make([]byte, 100)); err == nil || len(files) != 0 {
		t.Errorf("%d bytes, %d files, %v", n, len(files), err)
	}
	if now := testutil.OpenFDs(); len(now) != len(before) {
		t.Errorf("open: %q, before %q", now, before)
	}
}
