//go:build unix

package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// childEnv is the variable that makes this program play a child in the sense of tableflip.
const childEnv = "MIDAIR_PROCESS_CHILD"

// waitLimit is how long a test waits for an event that has to happen.
const waitLimit = 20 * time.Second

// report is what a child reports about itself. The child writes the report to the inherited file "answer".
type report struct {
	Args     []string
	Dir      string
	Sentinel string
	Leads    bool // a process group of its own
	Listener string
	Parent   [2]bool   // HasParent before and after Scrub
	Name     [2]string // of the process, before and after Scrub
	Private  bool      // the descriptors of tableflip are close-on-exec after Scrub
	Error    string
}

// If this process was started as a child of these tests, playChild writes a report, and then obeys the orders from the control
// socket.
func playChild() {
	if os.Getenv(childEnv) == "" {
		return
	}
	tf, err := tableflip.New(tableflip.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answer, err := tf.Fds.File("answer")
	if err != nil || answer == nil {
		fmt.Fprintln(os.Stderr, "no answer file", err)
		os.Exit(2)
	}
	control, err := tf.Fds.File(process.ControlName)
	if err != nil || control == nil {
		fmt.Fprintln(os.Stderr, "no control socket", err)
		os.Exit(2)
	}
	if err := json.NewEncoder(answer).Encode(describe(tf)); err != nil {
		os.Exit(2)
	}
	obey(tf, control, answer)
}

func describe(tf *tableflip.Upgrader) report {
	r := report{Args: os.Args, Leads: unix.Getpgrp() == os.Getpid(), Sentinel: os.Getenv(process.Sentinel)}
	ln, err := tf.Fds.Listener("tcp", "the address")
	if err != nil {
		r.Error = err.Error()
	} else if ln != nil {
		r.Listener = ln.Addr().String()
	}
	r.Dir, _ = os.Getwd()
	r.Parent[0], r.Name[0] = process.HasParent(), comm()
	process.Scrub()
	r.Parent[1], r.Name[1] = process.HasParent(), comm()
	r.Private = true
	for fd := uintptr(3); fd <= 4; fd++ {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		r.Private = r.Private && err == nil && flags&unix.FD_CLOEXEC != 0
	}
	return r
}

// comm returns the name of this process in the kernel.
func comm() string {
	b, _ := os.ReadFile("/proc/self/comm")
	return strings.TrimSpace(string(b))
}

// obeyMore obeys the other orders, which exist only on Linux.
var obeyMore = func(byte) string { return "unknown" }

// obey does what a byte from the parent orders: the child reports that it is ready, waits for the end of the parent, or ends.
func obey(tf *tableflip.Upgrader, control, answer *os.File) {
	for b := make([]byte, 1); ; {
		if n, err := control.Read(b); n == 0 || err != nil {
			os.Exit(0)
		}
		switch b[0] {
		case 'r':
			if tf.Ready() != nil {
				os.Exit(2)
			}
		case 'w':
			fmt.Fprintln(answer, "waiting")
			if tf.WaitForParent(context.Background()) == nil {
				fmt.Fprintln(answer, "alone")
			}
		case 'x':
			os.Exit(7)
		default:
			fmt.Fprintln(answer, obeyMore(b[0]))
		}
	}
}

// roleEnviron is the environment of a child that plays its role.
func roleEnviron(more ...string) []string {
	return append(append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0"), more...)
}

// preflight calls Preflight. The program is closed at the end of the test.
func preflight(t testing.TB, path string, args ...string) process.Program {
	t.Helper()
	p, err := process.Preflight(path, args, process.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// ownProgram is this program.
func ownProgram(t testing.TB, args ...string) process.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return preflight(t, self, args...)
}

// started is a child, with the read end of a pipe. The child has inherited the write end as descriptor 5.
type started struct {
	*process.Child
	t      testing.TB
	answer *os.File
}

// start starts a program. The process is killed at the end of the test.
func start(t testing.TB, p process.Program, env []string, files ...process.Inherited) *started {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	answer := process.Inherited{Name: [3]string{"fd", "answer", ""}, FD: sys.FD(w)}
	c, err := process.Start(p, env, append([]process.Inherited{answer}, files...), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		<-c.Exited
		c.Control.Close()
		c.Close()
	})
	return &started{Child: c, t: t, answer: r}
}

// shell starts a shell, which answers in descriptor 5.
func shell(t testing.TB, script string) *started {
	t.Helper()
	return start(t, preflight(t, "/bin/sh", "-c", script), os.Environ())
}

// report reads the report of a child.
func (s *started) report() (r report) {
	s.t.Helper()
	if err := errors.Join(s.answer.SetReadDeadline(time.Now().Add(waitLimit)), json.NewDecoder(s.answer).Decode(&r)); err != nil {
		s.t.Fatalf("the child says nothing: %v", err)
	}
	return r
}

// line returns the next line of the answer.
func (s *started) line() string {
	s.t.Helper()
	b := make([]byte, 100)
	if err := s.answer.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		s.t.Fatal(err)
	}
	n, err := s.answer.Read(b)
	if err != nil {
		s.t.Fatalf("the child says nothing: %v", err)
	}
	return strings.TrimSpace(string(b[:n]))
}

// tell sends a byte over the control socket.
func (s *started) tell(b byte) {
	s.t.Helper()
	if _, err := s.Control.Write([]byte{b}); err != nil {
		s.t.Fatal(err)
	}
}

// await fails the test if the channel is not closed in time.
func await(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(waitLimit):
		t.Fatalf("waited %v for %s", waitLimit, what)
	}
}

// copyFile copies a program, adds some bytes at the end, and returns the path of the copy.
func copyFile(t testing.TB, from, to, more string) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeProgram(t, to, string(b)+more)
	return to
}

// writeProgram writes a file that may be executed.
func writeProgram(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

// tcpListener opens a listener, which is closed at the end of the test.
func tcpListener(t testing.TB) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}
