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

// descriptors returns what each open descriptor refers to, except the descriptor by which the list is read.
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

// childProcesses returns the command line of each child of this process, also of zombies, except the guard.
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

// killSelf sends SIGKILL to this process.
func killSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// stopSelf suspends this process until it is sent SIGCONT. SIGSTOP goes to the calling thread, so stopSelf does not return
// before the process is suspended: a signal to the process may be handled by another thread a moment later.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}

// peeker finds out whether an idle connection has something to read. It neither waits nor reads.
type peeker struct {
	conn syscall.RawConn
	look func(fd uintptr)
	poll [1]unix.PollFd
	n    int
	err  error
}

// watch sets the connection that idle looks at.
func (p *peeker) watch(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	p.conn = raw
	p.look = p.peek
	return err
}

// peek calls poll first, which does not allocate: most connections have nothing to read.
func (p *peeker) peek(fd uintptr) {
	p.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	if n, err := unix.Poll(p.poll[:], 0); n == 0 || err != nil {
		p.n, p.err = 0, unix.EAGAIN
		return
	}
	var b [1]byte
	p.n, _, p.err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

// idle reports whether the connection is open and has nothing to read. stray is true if the server has sent bytes without a
// request.
func (p *peeker) idle() (idle, stray bool) {
	if err := p.conn.Control(p.look); err != nil {
		return false, false
	}
	return p.err == unix.EAGAIN || p.err == unix.EINTR, p.err == nil && p.n > 0
}
