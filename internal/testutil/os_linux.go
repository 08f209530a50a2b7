package testutil

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptors returns the target of each open descriptor, without the descriptor for reading the list.
func descriptors() map[int]string {
	names, err := readDirNames("/proc/self/fd")
	if err != nil {
		return nil
	}
	fds := map[int]string{}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if target, err := os.Readlink("/proc/self/fd/" + name); err == nil {
			fds[fd] = target
		}
	}
	return fds
}

// childProcesses returns the command of each child, zombies included, except the guard.
func childProcesses() map[int]string {
	children := map[int]string{}
	for _, p := range processes() {
		if p.parent == os.Getpid() && p.pid != guardPID() {
			children[p.pid] = command(p)
		}
	}
	return children
}

func command(p process) string {
	if p.zombie {
		return "(zombie)"
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	if err != nil {
		return "(ended)"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

// killSelf ends this process as kill -9 does.
func killSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// stopSelf stops this process until it is continued. The signal goes to the calling thread, which then stops before the call
// returns: a signal to the process may be taken by another thread while the calling thread runs on.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}

// peeker looks whether an idle connection has something to read, without waiting and without reading.
type peeker struct {
	conn syscall.RawConn
	look func(fd uintptr)
	poll [1]unix.PollFd
	n    int
	err  error
}

// watch makes the peeker look at c.
func (p *peeker) watch(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	p.conn = raw
	p.look = p.peek
	return err
}

// peek asks poll first, which allocates nothing: most connections are idle.
func (p *peeker) peek(fd uintptr) {
	p.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	if n, err := unix.Poll(p.poll[:], 0); n == 0 || err != nil {
		p.n, p.err = 0, unix.EAGAIN
		return
	}
	var b [1]byte
	p.n, _, p.err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

// idle reports whether the connection is open with nothing to read; stray whether there are bytes without a request.
func (p *peeker) idle() (idle, stray bool) {
	if err := p.conn.Control(p.look); err != nil {
		return false, false
	}
	return p.err == unix.EAGAIN || p.err == unix.EINTR, p.err == nil && p.n > 0
}
