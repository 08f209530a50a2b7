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
	"runtime"
	"strings"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// launch holds the files that a child inherits, and what has to be closed after the start.
type launch struct {
	names [][]string
	files []uintptr // these become the descriptors 3, 4, 5 and so on in the child
	undo  []func()  // close calls these functions
}

func start(p Program, env []string, files []Inherited, queue func(*os.File) error) (*Child, error) {
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
		return nil, err
	}
	l.add([]string{"fd", ControlName, ""}, sys.FD(theirs))
	pid, h := 0, hold(nil)
	if queue != nil {
		err = queue(ours)
	}
	if err == nil {
		pid, h, err = l.exec(p, env, life)
	}
	if err != nil {
		ours.Close()
		theirs.Close()
		readyR.Close()
		sys.CloseFD(life)
		return nil, err
	}
	if queue == nil || !p.marked {
		theirs.Close()
		theirs = nil
	}
	return newChild(pid, h, ours, theirs, readyR, life), nil
}

// pipes makes the two pipes of tableflip's protocol, and returns the ends for this process: the read end of the pipe for ready,
// and the write end of the pipe for the names.
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
	// The write end must stay open until this process ends. So life is a plain number: an os.File could be closed by a
	// finalizer.
	life, err = sys.DupFD(int(sys.FD(namesW)))
	if err != nil {
		readyR.Close()
		return nil, -1, err
	}
	l.files = append(l.files, sys.FD(readyW), sys.FD(namesR))
	return readyR, life, nil
}

func (l *launch) add(name []string, fd uintptr) {
	l.names = append(l.names, name)
	l.files = append(l.files, fd)
}

// exec writes the names of the files, and then starts the process. The order matters if this process is killed right after the
// start: the child must still be able to read which files it has inherited.
func (l *launch) exec(p Program, env []string, life int) (int, hold, error) {
	listeners := len(l.names) - 1 // without the control socket
	path, err := l.executable(p)
	if err != nil {
		return 0, nil, err
	}
	var names bytes.Buffer
	if err := gob.NewEncoder(&names).Encode(l.names); err != nil {
		return 0, nil, err
	}
	if names.Len() > namesLimit {
		return 0, nil, fmt.Errorf("the names of %d listeners take %d bytes, more than %d", listeners, names.Len(), namesLimit)
	}
	if n, err := unix.Write(life, names.Bytes()); err != nil || n < names.Len() {
		return 0, nil, fmt.Errorf("write names: %d of %d bytes: %w", n, names.Len(), cmp.Or(err, io.ErrShortWrite))
	}
	attr := &syscall.ProcAttr{
		Dir:   startDir,
		Env:   childEnv(env),
		Files: append([]uintptr{StdFD(0), StdFD(1), StdFD(2)}, l.files...),
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	pidfd := -1
	asSibling := p.sibling && beSibling(attr.Sys, &pidfd)
	pid, _, err := syscall.StartProcess(path, p.args, attr)
	runtime.KeepAlive(l)
	if err != nil {
		return 0, nil, ExplainStart(p.Name(), err)
	}
	if asSibling {
		h, err := holdSibling(pid, pidfd, p.told)
		return pid, h, err
	}
	h, err := holdOwn(pid)
	return pid, h, err
}

// ExplainStart adds the name of the program, and advice for an operator, to the error of a start.
func ExplainStart(program string, err error) error {
	err = fmt.Errorf("start %s: %w", program, err)
	_, gone := os.Stat(startDir)
	switch {
	case startDir != "" && gone != nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)):
		return fmt.Errorf("%w: %s is where the service was started: make the directory again", err, startDir)
	case errors.Is(err, unix.ENOENT) && isFile(program):
		return fmt.Errorf("%w: the file exists, but not the interpreter of its first line, or the dynamic loader of a program that uses C", err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: raise the limit of processes and threads (ulimit -u, TasksMax, pids.max)", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: is the file executable, and its file system not mounted with noexec?", err)
	}
	return sys.Explain(err)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// executable returns the path that a child executes. If the file may be a script, the child inherits a descriptor of the
// file, since the interpreter of a script opens the path again. A program with the mark is no script: its descriptor closes
// when the program is executed.
func (l *launch) executable(p Program) (string, error) {
	switch {
	case p.exe == nil:
		return p.path, nil
	case !p.marked:
		l.add([]string{"fd", exeName, ""}, sys.FD(p.exe))
		return descriptorPath(uintptr(2+len(l.files)), false), nil // the number of the descriptor in the child
	}
	// The executable needs a number that is not overwritten in the child. The child first moves some of the files to numbers
	// above the highest number in use, and then all files to the numbers from 3 up.
	above := 3 + len(l.files)
	for _, fd := range l.files {
		above = max(above, int(fd))
	}
	exe, err := unix.FcntlInt(sys.FD(p.exe), unix.F_DUPFD_CLOEXEC, above+len(l.files)+5)
	if errors.Is(err, unix.EINVAL) { // fcntl returns EINVAL for a number over the limit of open files
		err = unix.EMFILE
	}
	if err != nil {
		return "", sys.Explain(fmt.Errorf("the executable: %w", err))
	}
	l.undo = append(l.undo, func() { sys.CloseFD(exe) })
	return descriptorPath(uintptr(exe), false), nil
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

func stdFD(fd uintptr) uintptr {
	if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
		return ^uintptr(0)
	}
	return fd
}

func mayExecute(path string) error { return unix.Access(path, unix.X_OK) }
