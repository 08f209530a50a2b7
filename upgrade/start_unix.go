//go:build unix

package upgrade

import (
	"bytes"
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
	sentinel    = "TABLEFLIP_HAS_PARENT_7DIU3"
	readyByte   = 42
	controlName = "midair-control"
	exeName     = "midair-exe"
	firstPassed = 5
	namesLimit  = 32 << 10 // must fit into a pipe: the names are written before anybody reads
)

// started is a process that start has started.
type started struct {
	pid     int
	control *os.File      // this end of the control socket; whoever uses it closes it
	ready   chan struct{} // closed when the Ready byte has come
	exited  chan struct{} // closed when the process has ended; then status says how
	status  string

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

// start starts the program with a control socket and with the given files, which stay the caller's. The process is a
// child in the sense of tableflip, leads a process group of its own, begins in the start directory, and has this
// process's standard descriptors.
func start(p program, env []string, files []inheritedFile) (*started, error) {
	var l launch
	defer l.close()
	readyR, life, err := l.pipes()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		l.add(f.name[:], f.fd)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		readyR.Close()
		closeFD(life)
		return nil, explain(err)
	}
	l.undo = append(l.undo, func() { theirs.Close() })
	l.add([]string{"fd", controlName, ""}, fdOf(theirs))
	pid, err := l.exec(p, env, life)
	if err != nil {
		ours.Close()
		readyR.Close()
		closeFD(life)
		return nil, err
	}
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("find pid %d: %w", pid, err)
	}
	c := &started{pid: pid, control: ours, proc: proc, life: life, readyR: readyR, ready: make(chan struct{}), exited: make(chan struct{})}
	go c.awaitReady() // ends with the byte, with the process, or with close
	go c.wait()       // ends with the process
	return c, nil
}

// pipes makes tableflip's two pipes. It returns the ends that stay here.
func (l *launch) pipes() (readyR *os.File, life int, err error) {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, -1, explain(err)
	}
	l.undo = append(l.undo, func() { readyW.Close() })
	namesR, namesW, err := os.Pipe()
	if err != nil {
		readyR.Close()
		return nil, -1, explain(err)
	}
	l.undo = append(l.undo, func() { namesR.Close() }, func() { namesW.Close() })
	// The end must live exactly as long as this process, so it is kept as a number that no finalizer knows.
	life, err = unix.FcntlInt(fdOf(namesW), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		readyR.Close()
		return nil, -1, explain(err)
	}
	l.files = append(l.files, fdOf(readyW), fdOf(namesR))
	return readyR, life, nil
}

func (l *launch) add(name []string, fd uintptr) {
	l.names = append(l.names, name)
	l.files = append(l.files, fd)
}

// exec writes the names and starts the process. The names go first: a parent that is killed right after the start must
// not leave a child that cannot learn what it inherited.
func (l *launch) exec(p program, env []string, life int) (int, error) {
	path := p.path
	if p.exe != nil {
		l.add([]string{"fd", exeName, ""}, fdOf(p.exe))
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
		Files: append([]uintptr{stdFD(0), stdFD(1), stdFD(2)}, l.files...),
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	pid, _, err := syscall.StartProcess(path, p.args, attr)
	runtime.KeepAlive(l)
	if err != nil {
		return 0, explain(fmt.Errorf("start %s: %w", p.name(), err))
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
		if !strings.HasPrefix(v, sentinel+"=") {
			out = append(out, v)
		}
	}
	return append(out, sentinel+"=yes")
}

// stdFD passes a standard descriptor on untouched, and leaves it closed in the child if it is closed here.
func stdFD(fd uintptr) uintptr {
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

// explain adds what to do to the errors that an operator meets.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EIO):
		return fmt.Errorf("%w: is the file a complete program for %s/%s?", err, runtime.GOOS, runtime.GOARCH)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: raise the limit of open files (ulimit -n, LimitNOFILE)", err)
	case errors.Is(err, unix.ETXTBSY):
		return fmt.Errorf("%w: the file is still being written; write a new one and rename it", err)
	}
	return err
}

// awaitReady ends with the byte, when no process holds the other end any more, or with close.
func (c *started) awaitReady() {
	defer c.readyR.Close()
	var b [1]byte
	if n, _ := c.readyR.Read(b[:]); n == 1 && b[0] == readyByte {
		close(c.ready)
	}
}

// wait reaps the process. It ends with the process: after a commit that is later than this one's own end.
func (c *started) wait() {
	state, err := c.proc.Wait()
	c.status = fmt.Sprint(state)
	if err != nil {
		c.status = err.Error()
	}
	close(c.exited)
}

func (c *started) signal(sig os.Signal) { _ = c.proc.Signal(sig) }

// kill ends the process and what it has started: its group is its own. Between its end and its reaping, which wait does
// at once, the number can be nobody else's.
func (c *started) kill() {
	if c.proc.Signal(syscall.Signal(0)) == nil {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	}
}

// close ends what belongs to a child that has died. It is not called after a commit: the pipe's end tells the child
// when this process is gone.
func (c *started) close() {
	c.readyR.Close()
	closeFD(c.life)
}

func fdOf(f *os.File) (fd uintptr) {
	raw, err := f.SyscallConn()
	if err != nil {
		return ^uintptr(0)
	}
	_ = raw.Control(func(n uintptr) { fd = n }) // not Fd(): it would make the descriptor blocking
	return fd
}

func shutdownFD(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }

func closeFD(fd int) { _ = unix.Close(fd) }

// duplicate copies the descriptor of c, close-on-exec, and tells which socket it is.
func duplicate(c syscall.Conn) (fd int, inode uint64, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, 0, err
	}
	var dupErr error
	err = raw.Control(func(n uintptr) {
		fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return -1, 0, explain(fmt.Errorf("duplicate: %w", err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil {
		inode = uint64(st.Ino)
	}
	return fd, inode, nil
}

// dupFD returns another descriptor of what fd is, close-on-exec.
func dupFD(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3) }

// dupFile returns another descriptor of an open file.
func dupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(fdOf(f), unix.F_DUPFD_CLOEXEC, 3)
	runtime.KeepAlive(f)
	if err != nil {
		return nil, explain(fmt.Errorf("duplicate: %w", err))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// connFile returns another descriptor of a connection.
func connFile(c net.Conn) (*os.File, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T has no descriptor", c)
	}
	fd, _, err := duplicate(sc)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "connection"), nil
}

// unixPair makes the two ends of a connection between unix sockets.
func unixPair() (net.Conn, *os.File, error) {
	fds, err := streamPair()
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fds[0]), "connection")
	defer file.Close()
	theirs := os.NewFile(uintptr(fds[1]), "connection")
	ours, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// scrub hides tableflip's descriptors and its variable from the processes that this one starts: each of them would
// believe that it has a parent.
func scrub() {
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	os.Unsetenv(sentinel)
	restoreName()
}
