package supervisor

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// console is the terminal of a program that has not served yet: it may be a command that reads from it and is interrupted at it.
// Generations lead process groups of their own, so the group of the first one is made the foreground group, until it serves, if the
// supervisor's is. The supervisor stops with that program, as the shell expects, and goes on with it.
type console struct {
	tty  *os.File // nil: the supervisor has no terminal, or the program has served
	lent int      // the group of the program; 0: it was not started yet
}

// openConsole looks for the terminal of the supervisor's session. In a pipeline the terminal is also the other programs', which are in the
// supervisor's group: it is not lent.
func openConsole() console {
	if isPipe(0) || isPipe(1) {
		return console{}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return console{}
	}
	return console{tty: tty}
}

func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// has reports whether a group is in the foreground.
func (c *console) has(group int) bool {
	now, err := unix.IoctlGetInt(int(c.tty.Fd()), unix.TIOCGPGRP)
	return err == nil && now == group
}

// start makes the program start in the foreground, if the supervisor is there.
func (c *console) start(attr *syscall.SysProcAttr) {
	if c.tty != nil && c.has(unix.Getpgrp()) {
		attr.Foreground, attr.Ctty = true, int(c.tty.Fd())
	}
}

// lend puts the group of the program into the foreground, if the supervisor is there.
func (c *console) lend(group int) {
	if c.tty == nil {
		return
	}
	if c.has(unix.Getpgrp()) {
		c.give(group)
	}
	c.lent = group
}

// take puts the supervisor into the foreground again, if the program is there.
func (c *console) take() {
	if c.tty == nil {
		return
	}
	if c.lent != 0 && c.has(c.lent) {
		c.give(unix.Getpgrp())
	}
	c.tty.Close()
	*c = console{}
}

// give changes the foreground group. From the background a process may do that only if it blocks SIGTTOU.
func (c *console) give(group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(int(c.tty.Fd()), unix.TIOCSPGRP, group) // fails if nobody is in the group any more
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}

// stopped handles a child that a key, or its use of the terminal from the background, has stopped: the supervisor stops with it.
// Without a shell that could continue the two, the child goes on.
func (s *supervisor) stopped(g *generation, by syscall.Signal) {
	if s.everMain || s.ending || by == unix.SIGSTOP {
		return
	}
	if session, err := unix.Getsid(0); err == nil && session == os.Getpid() {
		_ = unix.Kill(-g.pid, unix.SIGCONT)
		return
	}
	s.resumeDue = time.Now().Add(stopLimit) // an orphaned process group is not stopped
	_ = unix.Kill(0, by)
}

// stopLimit is how long the kernel may take to stop the supervisor.
const stopLimit = 200 * time.Millisecond

// passKey passes on a key that has ended the program, to those that were started beside the supervisor: a script, a pipeline. The key
// signals the foreground group only, which was the program's.
func (s *supervisor) passKey(g *generation) {
	sig := g.status.Signal()
	if s.console.tty != nil && g.known && g.status.Signaled() && (sig == unix.SIGINT || sig == unix.SIGQUIT) && s.console.has(s.console.lent) {
		s.console.take()
		_ = unix.Kill(0, sig) // which the supervisor catches
	}
}

// continued goes on with the child.
func (s *supervisor) continued() {
	s.resumeDue = time.Time{}
	if s.everMain || s.main == nil || s.ending {
		return
	}
	s.console.lend(s.main.pid)
	_ = unix.Kill(-s.main.pid, unix.SIGCONT)
}
