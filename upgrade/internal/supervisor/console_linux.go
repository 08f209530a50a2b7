package supervisor

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// console is the terminal of a program that has not served yet: perhaps the program is a command that reads from the terminal
// and is interrupted by Ctrl-C. The program leads a process group of its own. If the supervisor's group is in the foreground,
// the program's group replaces it in the foreground until the program serves. The supervisor is suspended and continued
// together with the program, as the shell expects.
type console struct {
	tty       *os.File  // nil: the supervisor has no terminal, or the program has served
	lent      int       // the group of the program; 0: not started yet
	resumeDue time.Time // when the program is continued, if the kernel has not suspended the supervisor; zero: never
}

// openConsole opens the terminal of the supervisor's session. In a pipeline the console has no terminal, because other programs
// in the supervisor's group use the terminal as well.
func openConsole() *console {
	if isPipe(0) || isPipe(1) {
		return &console{}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return &console{}
	}
	return &console{tty: tty}
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

// foreground sets attr so that a program starts in the foreground, if the supervisor's group is in the foreground.
func (c *console) foreground(attr *syscall.SysProcAttr) {
	if c.tty != nil && c.has(unix.Getpgrp()) {
		attr.Foreground, attr.Ctty = true, int(c.tty.Fd())
	}
}

// lend puts the group of the program into the foreground, if the supervisor's group is in the foreground.
func (c *console) lend(group int) {
	if c.tty == nil {
		return
	}
	if c.has(unix.Getpgrp()) {
		c.give(group)
	}
	c.lent = group
}

// take puts the supervisor's group into the foreground again, if the program's group is in the foreground, and closes the
// terminal.
func (c *console) take() {
	if c.tty == nil {
		return
	}
	if c.lent != 0 && c.has(c.lent) {
		c.give(unix.Getpgrp())
	}
	c.tty.Close()
	c.tty, c.lent = nil, 0
}

// give changes the foreground group. From the background a process may change the group only while SIGTTOU is blocked.
func (c *console) give(group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(int(c.tty.Fd()), unix.TIOCSPGRP, group) // fails if the group is empty
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}

// stopLimit is how long the kernel may take to suspend the supervisor.
const stopLimit = 200 * time.Millisecond

// stop is called when a signal has suspended the program: a key such as Ctrl-Z was pressed, or the program has used the
// terminal from the background. Usually stop suspends the supervisor too. If the supervisor leads its session, no shell could
// continue the two processes. In this case stop continues the program at once.
func (c *console) stop(group int, by syscall.Signal) {
	if session, err := unix.Getsid(0); err == nil && session == os.Getpid() {
		_ = unix.Kill(-group, unix.SIGCONT)
		return
	}
	c.resumeDue = time.Now().Add(stopLimit) // the kernel perhaps does not suspend the supervisor
	_ = unix.Kill(0, by)
}

// resume continues the program.
func (c *console) resume(group int) {
	c.lend(group)
	_ = unix.Kill(-group, unix.SIGCONT)
}

// passKey handles the end of the program by a key of the terminal, such as Ctrl-C. The terminal has sent the signal to the
// foreground group only, which was the group of the program. So passKey sends the same signal to the process group of the
// supervisor: a script in this group may have started the supervisor. The supervisor itself ignores the signal from then on.
// A thread may handle a caught signal late: when the supervisor has ended and the signal is not caught any more.
func (c *console) passKey(ws unix.WaitStatus) {
	sig := ws.Signal()
	if c.tty != nil && ws.Signaled() && (sig == unix.SIGINT || sig == unix.SIGQUIT) && c.has(c.lent) {
		c.take()
		signal.Ignore(sig)
		_ = unix.Kill(0, sig)
	}
}
