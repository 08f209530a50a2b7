//go:build unix

package process_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// A started process is a child in the sense of tableflip: it gets the files under their names, and the variable Sentinel with
// one value. It leads a process group of its own, and begins in the start directory of this process.
func TestChildGetsWhatTableflipExpects(t *testing.T) {
	t.Chdir(t.TempDir())
	ln := tcpListener(t)
	fd, _, err := sys.Duplicate(ln)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, ownProgram(t, "an argument", ""), roleEnviron(process.Sentinel+"=no", process.Sentinel+"=twice"),
		process.Inherited{Name: [3]string{"listener", "tcp", "the address"}, FD: uintptr(fd)})
	sys.CloseFD(fd)
	ln.Close()
	r := c.report()
	if !slices.Equal(r.Args, []string{self, "an argument", ""}) || r.Dir != process.StartDir() || r.Sentinel != "yes" || !r.Leads || r.Error != "" {
		t.Errorf("%+v; this process was started in %s", r, process.StartDir())
	}
	if r.Listener != ln.Addr().String() {
		t.Errorf("the listener is %q, want %q", r.Listener, ln.Addr())
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Errorf("the child does not have the socket: %v", err)
	} else {
		conn.Close()
	}
}

// Scrub hides tableflip's files and variable from the processes that the child starts.
func TestScrubHidesTheParent(t *testing.T) {
	r := start(t, ownProgram(t), roleEnviron()).report()
	if r.Parent != [2]bool{true, false} || !r.Private {
		t.Errorf("HasParent before and after: %v; close-on-exec: %v", r.Parent, r.Private)
	}
	if process.HasParent() {
		t.Error("this process was started as a child, it says")
	}
}

// The channel Ready is closed when the child calls tableflip's Ready, and not before.
func TestReadyIsTableflips(t *testing.T) {
	c := start(t, ownProgram(t), roleEnviron())
	c.report()
	select {
	case <-c.Ready:
		t.Error("it is ready before it says so")
	default:
	}
	c.tell('r')
	await(t, "Ready", c.Ready)
	c.tell('x')
	await(t, "the end", c.Exited)
	if c.Status != "exit status 7" {
		t.Errorf("status %q", c.Status)
	}
}

// A child that sends another byte, or ends, is not ready. Status is how the child has ended.
func TestOtherBytesAreNotReady(t *testing.T) {
	for _, c := range []struct{ script, status string }{
		{"exit 0", "exit status 0"}, {"exit 3", "exit status 3"}, {"printf x >&3; exit 1", "exit status 1"},
		{"printf '' >&3; kill -TERM $$", "signal: terminated"},
	} {
		s := shell(t, c.script)
		await(t, "the end", s.Exited)
		if s.Status != c.status {
			t.Errorf("%s: status %q, want %q", c.script, s.Status, c.status)
		}
		select {
		case <-s.Ready:
			t.Errorf("%s: it is ready", c.script)
		default:
		}
	}
}

// A child that ends right after it has sent the byte was ready nevertheless.
func TestReadyOutlivesTheProcess(t *testing.T) {
	s := shell(t, `printf '\052' >&3`)
	await(t, "the end", s.Exited)
	await(t, "Ready", s.Ready)
}

// Signal sends a signal to the process. After the end of the process, Signal sends nothing.
func TestSignalReachesTheProcess(t *testing.T) {
	s := shell(t, `trap 'echo told >&5; kill $!; exit 4' USR1; sleep 60 & echo up >&5; wait`)
	s.line()
	s.Signal(syscall.SIGUSR1)
	if got := s.line(); got != "told" {
		t.Errorf("%q", got)
	}
	await(t, "the end", s.Exited)
	s.Signal(syscall.SIGUSR1)
	s.Kill()
}

// Close closes the pipe whose end shows the child that this process has ended. The child goes on.
func TestCloseTellsTheChild(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := process.Start(ownProgram(t), roleEnviron(), []process.Inherited{{Name: [3]string{"fd", "answer", ""}, FD: sys.FD(w)}}, nil)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := &started{Child: c, t: t, answer: r}
	defer func() { c.Kill(); <-c.Exited; c.Control.Close() }()
	s.report()
	for _, word := range "rw" {
		s.tell(byte(word))
	}
	await(t, "Ready", c.Ready)
	if got := s.line(); got != "waiting" {
		t.Errorf("%q", got)
	}
	c.Close()
	if got := s.line(); got != "alone" {
		t.Errorf("%q", got)
	}
}

// After a start, the files that a child has inherited are still open in this process, and close-on-exec.
func TestInheritedFilesStayTheCallers(t *testing.T) {
	ln := tcpListener(t)
	fd, _, err := sys.Duplicate(ln)
	if err != nil {
		t.Fatal(err)
	}
	defer sys.CloseFD(fd)
	s := start(t, preflight(t, "/bin/sh", "-c", "exit 0"), nil, process.Inherited{Name: [3]string{"listener", "tcp", "x"}, FD: uintptr(fd)})
	await(t, "the end", s.Exited)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

// If a standard descriptor is closed in this process, StdFD returns no descriptor, so the descriptor is closed in the child
// too.
func TestClosedStandardDescriptorStaysClosed(t *testing.T) {
	for fd := range uintptr(3) {
		if got := process.StdFD(fd); got != fd {
			t.Errorf("descriptor %d is %d for a child", fd, got)
		}
	}
	if got := process.StdFD(1 << 20); got != ^uintptr(0) {
		t.Errorf("a closed descriptor is %d for a child", got)
	}
}

// If a program cannot be started, the error has the name of the program, and says what an operator can do.
func TestStartSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	gone, broken := filepath.Join(dir, "gone"), filepath.Join(dir, "broken")
	writeProgram(t, gone, "#!/bin/sh\n")
	writeProgram(t, broken, "\x7fELF and nothing behind it")
	missing := preflight(t, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program process.Program
		err     error
		text    string
	}{
		{missing, syscall.ENOENT, "start " + gone + ": "},
		{preflight(t, broken), syscall.ENOEXEC, "is the file a complete program"},
	} {
		before := testutil.OpenFDs()
		if child, err := process.Start(c.program, nil, nil, nil); child != nil || !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, %v, want %q", child, err, c.text)
		}
		mustHave(t, before)
	}
}

// mustHave fails the test if other descriptors are open than before.
func mustHave(t testing.TB, before []string) {
	t.Helper()
	testutil.Until(t, waitLimit, "descriptors to be closed", func() bool { return len(testutil.OpenFDs()) == len(before) })
}

// If the names of the listeners do not fit into a pipe, Start returns an error with the numbers, and no descriptor stays open.
func TestTooManyNamesAreRefused(t *testing.T) {
	files := slices.Repeat([]process.Inherited{{Name: [3]string{"listener", "unix", "/" + strings.Repeat("x", 90)}}}, 400)
	before := testutil.OpenFDs()
	c, err := process.Start(preflight(t, "/bin/sh", "-c", "exit 0"), nil, files, nil)
	if c != nil || err == nil || !strings.Contains(err.Error(), "the names of 400 listeners take ") || !strings.Contains(err.Error(), "more than 32768") {
		t.Errorf("%v, %v", c, err)
	}
	mustHave(t, before)
}

// If the descriptors run out at any step of Start, the error says what an operator can do, and no descriptor stays open.
func TestStartNeedsDescriptors(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
	p := preflight(t, "/bin/sh", "-c", "exit 0")
	next, err := sys.DupFD(0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	sys.CloseFD(next)
	before := testutil.OpenFDs()
	failed := 0
	for room := range 20 {
		low := old
		setNumber(&low.Cur, next+room)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		c, err := process.Start(p, nil, nil, nil)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			failed++
			if !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "raise the limit of open files") {
				t.Errorf("with room for %d: %v", room, err)
			}
		} else {
			await(t, "the end", c.Exited)
			c.Control.Close()
			c.Close()
		}
		mustHave(t, before)
	}
	if failed < 7 || failed > 12 {
		t.Errorf("%d of 20 have failed", failed)
	}
}

// setNumber sets a number field whose type is not the same on all platforms.
func setNumber[T int64 | uint64](to *T, n int) { *to = T(n) }
