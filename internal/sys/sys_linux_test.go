package sys_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// No process can change a sealed file: the file can be neither written, nor mapped for writing, nor cut, nor extended. It can
// still be read.
func TestSealedFileCannotBeChanged(t *testing.T) {
	f := memFile(t)
	mustWrite(t, f, "content")
	if err := sys.CheckSeal(f); err == nil || !strings.Contains(err.Error(), "not sealed") {
		t.Errorf("before: %v", err)
	}
	if err := errors.Join(sys.Seal(f), sys.CheckSeal(f)); err != nil {
		t.Fatal(err)
	}
	_, errWrite := f.WriteAt([]byte("x"), 0)
	mem, errMap := unix.Mmap(int(sys.FD(f)), 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	for what, err := range map[string]error{
		"written": errWrite, "mapped": errMap, "cut": f.Truncate(1), "extended": f.Truncate(100), "sealed again": sys.Seal(f),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("the file was %s: %v, %q", what, err, mem)
		}
	}
	if got := mustRead(t, io.NewSectionReader(f, 0, 7), 7); got != "content" {
		t.Errorf("%q", got)
	}
}

// CheckSeal returns an error if any of the seals is missing.
func TestHalfSealedFileIsRefused(t *testing.T) {
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	for _, missing := range []int{unix.F_SEAL_SEAL, unix.F_SEAL_SHRINK, unix.F_SEAL_GROW, unix.F_SEAL_WRITE} {
		f := memFile(t)
		if _, err := unix.FcntlInt(sys.FD(f), unix.F_ADD_SEALS, all&^missing); err != nil {
			t.Fatal(err)
		}
		if err := sys.CheckSeal(f); err == nil || !strings.Contains(err.Error(), "not sealed") {
			t.Errorf("without seal %#x: %v", missing, err)
		}
	}
}

// Seal and CheckSeal return an error for a file in a directory.
func TestOrdinaryFileHasNoSeal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for what, err := range map[string]error{"Seal": sys.Seal(f), "CheckSeal": sys.CheckSeal(f)} {
		if err == nil || !strings.HasPrefix(err.Error(), "seal: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A socket of SocketPair preserves the boundaries of messages: each message is received by one call, and complete.
func TestSocketPairKeepsMessageBorders(t *testing.T) {
	ours, theirs := socketPair(t)
	sent := []string{"first", "", strings.Repeat("long", 8<<10), "last"}
	for _, text := range sent {
		if err := unix.Sendmsg(int(sys.FD(ours)), []byte(text), nil, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 64<<10)
	for _, want := range sent {
		n, _, err := unix.Recvfrom(int(sys.FD(theirs)), buf, unix.MSG_DONTWAIT)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%d bytes, %v, want %d", n, err, len(want))
		}
	}
}

// Readable reports whether a read would return at once, also at the end of the stream. It leaves the data in the socket.
// HasInput returns the same.
func TestReadableTakesNothing(t *testing.T) {
	client, server := tcpPair(t)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	look := func() (readable bool) {
		err := raw.Control(func(fd uintptr) {
			readable = sys.Readable(fd)
			if input := sys.HasInput(fd); input != readable {
				t.Errorf("Readable %v, HasInput %v", readable, input)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return readable
	}
	await := func() {
		if err := raw.Read(sys.HasInput); err != nil {
			t.Fatal(err)
		}
	}
	if look() {
		t.Error("nothing was sent, and it can be read")
	}
	mustWrite(t, client, "ab")
	await()
	for range 2 { // Readable must leave the data in the socket
		if !look() {
			t.Error("what was sent cannot be read")
		}
	}
	if got := mustRead(t, server, 2); got != "ab" {
		t.Errorf("%q", got)
	}
	if look() {
		t.Error("all was read, and there is more")
	}
	client.Close()
	await()
	for range 2 {
		if !look() {
			t.Error("the end cannot be read")
		}
	}
}

// Readable returns true for a descriptor that is no socket, so that the caller reads and gets the error.
func TestWhatIsNoSocketIsReadable(t *testing.T) {
	r, _ := pipe(t)
	if !sys.Readable(sys.FD(r)) || !sys.Readable(^uintptr(0)) {
		t.Error("it is waited for")
	}
}

// ReceivedFiles ignores other control data than descriptors, such as the credentials of the sender.
func TestCredentialsAreNoDescriptors(t *testing.T) {
	_, w := pipe(t)
	oob := unix.UnixCredentials(&unix.Ucred{Pid: 1})
	files, err := sys.ReceivedFiles(append(oob, unix.UnixRights(int(sys.FD(w)))...))
	if err != nil || len(files) != 1 || sys.FD(files[0]) != sys.FD(w) {
		t.Fatalf("%v, %v", files, err)
	}
	fd, err := sys.DupFD(int(sys.FD(w))) // two files own the same number now: fd is for the second close
	if err != nil {
		t.Fatal(err)
	}
	files[0].Close()
	if err := unix.Dup3(fd, int(sys.FD(w)), unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	sys.CloseFD(fd)
}

// MayWrite reports whether this process can make files in a directory, with the rights that it has at the moment of the call.
func TestMayWriteAsksForTheRightsOfNow(t *testing.T) {
	root, err := os.MkdirTemp("", "rights")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	dir := filepath.Join(root, "dir")
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o777: true, 0o555: false, 0o666: false, 0o333: true} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		testutil.AsNobody(t, func() {
			if got := sys.MayWrite(dir); got != want {
				t.Errorf("mode %o: %v", mode, got)
			}
		})
	}
	if sys.MayWrite(filepath.Join(root, "missing")) {
		t.Error("a directory that is not there may be changed")
	}
}

// If there are not enough descriptors, the error says what an operator can do, and no descriptor of a half-made pair stays
// open.
func TestWhatNeedsDescriptorsSaysSo(t *testing.T) {
	keepsNothing(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	next, err := sys.DupFD(0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	sys.CloseFD(next)
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
	socketPair := func() error { _, _, err := sys.SocketPair(); return err }
	unixPair := func() error { _, _, err := sys.UnixPair(); return err }
	for _, c := range []struct {
		name string
		room int
		make func() error
	}{
		{"DupFD", 0, func() error { _, err := sys.DupFD(0); return err }},
		{"DupFile", 0, func() error { _, err := sys.DupFile(os.Stderr); return err }},
		{"MemFile", 0, func() error { _, err := sys.MemFile("full"); return err }},
		{"SocketPair", 0, socketPair}, {"SocketPair", 1, socketPair},
		{"UnixPair", 0, unixPair}, {"UnixPair", 1, unixPair}, {"UnixPair", 2, unixPair},
	} {
		low := unix.Rlimit{Cur: uint64(next + c.room), Max: old.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		if err := c.make(); !errors.Is(err, unix.EMFILE) || strings.Count(fmt.Sprint(err), "ulimit -n") != 1 {
			t.Errorf("%s with room for %d: %v", c.name, c.room, err)
		}
	}
}
