//go:build unix

package process

import (
	"bytes"
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// HasParent tells whether this process was started by an older generation.
func HasParent() bool { return os.Getenv(Sentinel) != "" }

// The new process is a child in the sense of tableflip: tableflip.New in it takes the listeners, tableflip's Ready is
// the commit. The old process speaks the parent's half of that protocol here and not through tableflip's Upgrade,
// because Upgrade reads os.Args and the environment of the whole process, hides the pid, can be neither cancelled nor
// repeated after a commit, picks at random between "ready" and "exited", and refuses while the parent's parent still
// drains. The protocol of tableflip v1.2.3, which its own parents and children are tested against here:
//
//	descriptor 3   pipe to the parent; one byte 42 means ready
//	descriptor 4   pipe from the parent; names of the passed files as gob [][]string, then EOF when the parent ends
//	descriptor 5+  the passed files, in the order of their names
//	environment    the sentinel variable
const (
	Sentinel    = "TABLEFLIP_HAS_PARENT_7DIU3"
	readyByte   = 42
	ControlName = "midair-control"
	exeName     = "midair-exe"
	FirstPassed = 5
	namesLimit  = 32 << 10 // must fit into a pipe: the names are written before anybody reads
)

// Child is a process that start has started.
type Child struct {
	PID     int
	Control *os.File      // this end of the control socket; whoever uses it closes it
	Ready   chan struct{} // closed when the Ready byte has come
	Exited  chan struct{} // closed when the process has ended; then status says how
	Status  string

	proc   *os.Process
	readyR *os.File
	life   int // write end of the pipe that tells the child when this process ends
}

// launch is what a child inherits, and what has to be closed if it does not come to life.
type launch struct {
	names [][]string
	files []uintptr // for descriptors 3 and up
	undo  []func()
}

// Start starts the program with a control socket and with the given files, which stay the caller's. The process is a
// child in the sense of tableflip, leads a process group of its own, begins in the start directory, and has this
// process's standard descriptors.
func Start(p Program, env []string, files []Inherited) (*Child, error) {
	var l launch
	defer l.close()
	readyR, life, err := l.pipes()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		l.add(f.Name[:], f.FD)
	}
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		readyR.Close()
		sys.CloseFD(life)
		return nil, sys.Explain(err)
	}
	l.undo = append(l.undo, func() { theirs.Close() })
	l.add([]string{"fd", ControlName, ""}, sys.FD(theirs))
	pid, err := l.exec(p, env, life)
	if err != nil {
		ours.Close()
		readyR.Close()
		sys.CloseFD(life)
		return nil, err
	}
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("find pid %d: %w", pid, err)
	}
	c := &Child{PID: pid, Control: ours, proc: proc, life: life, readyR: readyR, Ready: make(chan struct{}), Exited: make(chan struct{})}
	go c.awaitReady() // ends with the byte, with the process, or with close
	go c.wait()       // ends with the process
	return c, nil
}

// pipes makes tableflip's two pipes. It returns the ends that stay here.
func (l *launch) pipes() (readyR *os.File, life int, err error) {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, -1, sys.Explain(err)
	}
	l.undo = append(l.undo, func() { readyW.Close() })
	namesR, namesW, err := os.Pipe()
	if err != nil {
		readyR.Close()
		return nil, -1, sys.Explain(err)
	}
	l.undo = append(l.undo, func() { namesR.Close() }, func() { namesW.Close() })
	// The end must live exactly as long as this process, so it is kept as a number that no finalizer knows.
	life, err = unix.FcntlInt(sys.FD(namesW), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		readyR.Close()
		return nil, -1, sys.Explain(err)
	}
	l.files = append(l.files, sys.FD(readyW), sys.FD(namesR))
	return readyR, life, nil
}

func (l *launch) add(name []string, fd uintptr) {
	l.names = append(l.names, name)
	l.files = append(l.files, fd)
}

// exec writes the names and starts the process. The names go first: a parent that is killed right after the start must
// not leave a child that cannot learn what it inherited.
func (l *launch) exec(p Program, env []string, life int) (int, error) {
	path := p.path
	if p.exe != nil {
		l.add([]string{"fd", exeName, ""}, sys.FD(p.exe))
		path = descriptorPath(uintptr(2+len(l.files)), false) // where it is in the child
	}
	var names bytes.Buffer
	if err := gob.NewEncoder(&names).Encode(l.names); err != nil {
		return 0, err
	}
	if names.Len() > namesLimit {
		return 0, fmt.Errorf("the names of %d listeners take %d bytes, more than %d", len(l.names)-1, names.Len(), namesLimit)
	}
	if n, err := unix.Write(life, names.Bytes()); err != nil || n < names.Len() {
		return 0, fmt.Errorf("write names: %d of %d bytes: %w", n, names.Len(), cmp.Or(err, io.ErrShortWrite))
	}
	attr := &syscall.ProcAttr{
		Dir:   startDir,
		Env:   childEnv(env),
		Files: append([]uintptr{StdFD(0), StdFD(1), StdFD(2)}, l.files...),
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	pid, _, err := syscall.StartProcess(path, p.args, attr)
	runtime.KeepAlive(l)
	if err != nil {
		return 0, sys.Explain(fmt.Errorf("start %s: %w", p.name(), err))
	}
	return pid, nil
}

func (l *launch) close() {
	for _, fn := range l.undo {
		fn()
	}
}

func childEnv(env []string) []string {
	out := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, Sentinel+"=") {
			out = append(out, v)
		}
	}
	return append(out, Sentinel+"=yes")
}

// StdFD passes a standard descriptor on untouched, and leaves it closed in the child if it is closed here.
func StdFD(fd uintptr) uintptr {
	if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
		return ^uintptr(0)
	}
	return fd
}

// checkExecutable names what the kernel would answer with a bare errno, or not at all.
func checkExecutable(name string) (string, error) {
	if startDir == "" {
		return "", errors.New("the directory that the program was started in was not readable")
	}
	if _, err := os.Stat(startDir); err != nil {
		return "", fmt.Errorf("the directory that the program was started in is gone: %w", err)
	}
	path, err := lookup(name)
	if err != nil {
		return "", fmt.Errorf("executable: %w", err)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("executable: %w", err)
	case info.IsDir():
		return "", fmt.Errorf("executable %s: is a directory", path)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("executable %s: is no regular file (mode %s)", path, info.Mode())
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return "", fmt.Errorf("executable %s: not executable (mode %s): %w", path, info.Mode(), err)
	}
	return filepath.Clean(path), nil
}

// lookup finds the file to execute without following symbolic links, so that a link which a release moves is seen.
func lookup(name string) (string, error) {
	if !strings.ContainsRune(name, filepath.Separator) {
		return exec.LookPath(name)
	}
	if filepath.IsAbs(name) {
		return name, nil
	}
	return filepath.Join(startDir, name), nil
}

// awaitReady ends with the byte, when no process holds the other end any more, or with close.
func (c *Child) awaitReady() {
	defer c.readyR.Close()
	var b [1]byte
	if n, _ := c.readyR.Read(b[:]); n == 1 && b[0] == readyByte {
		close(c.Ready)
	}
}

// wait reaps the process. It ends with the process: after a commit that is later than this one's own end.
func (c *Child) wait() {
	state, err := c.proc.Wait()
	c.Status = fmt.Sprint(state)
	if err != nil {
		c.Status = err.Error()
	}
	close(c.Exited)
}

func (c *Child) Signal(sig os.Signal) { _ = c.proc.Signal(sig) }

// Kill ends the process and what it has started: its group is its own. Between its end and its reaping, which wait does
// at once, the number can be nobody else's.
func (c *Child) Kill() {
	if c.proc.Signal(syscall.Signal(0)) == nil {
		_ = syscall.Kill(-c.PID, syscall.SIGKILL)
	}
}

// Close ends what belongs to a child that has died. It is not called after a commit: the pipe's end tells the child
// when this process is gone.
func (c *Child) Close() {
	c.readyR.Close()
	sys.CloseFD(c.life)
}

// Scrub hides tableflip's descriptors and its variable from the processes that this one starts: each of them would
// believe that it has a parent.
func Scrub() {
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	os.Unsetenv(Sentinel)
	RestoreName()
}
