package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// siblingHold is the hold on a process that was started as a child of this process's parent: the parent reaps the process.
type siblingHold struct {
	*Handle
	told <-chan string // where the parent's report arrives, see Program.AsSibling; nil: there is no report
}

// statusLimit is how long wait waits for the exit status after the end of the process. The exit status arrives when the parent
// has reaped the process, or when the parent's report arrives.
const statusLimit = 200 * time.Millisecond

// unknownStatus is the status of a process when neither the parent nor the kernel reports more.
const unknownStatus = "status unknown: another process is its parent"

// beSibling changes attr so that the started process becomes a child of this process's parent. If this process is process 1, or
// if the kernel has no pidfds, beSibling returns false and changes nothing.
func beSibling(attr *syscall.SysProcAttr, pidfd *int) bool {
	if os.Getpid() == 1 {
		return false
	}
	probe, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	unix.Close(probe)
	attr.Cloneflags, attr.PidFD = unix.CLONE_PARENT, pidfd
	return true
}

func holdSibling(pid, pidfd int, told func(int) <-chan string) (hold, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &siblingHold{Handle: &Handle{pid: pid, pidfd: os.NewFile(uintptr(pidfd), "pidfd")}}
	if told != nil {
		s.told = told(pid)
	}
	return s, nil
}

func (s *siblingHold) wait() string {
	if err := s.Wait(); err != nil {
		return err.Error()
	}
	timer := time.NewTimer(statusLimit)
	defer timer.Stop()
	reaped := make(chan string, 1)
	go func() { // ends when the process was reaped, or after statusLimit
		if ws, ok := s.status(); ok {
			reaped <- Describe(ws)
		}
	}()
	select {
	case text := <-s.told:
		return text
	case text := <-reaped:
		return text
	case <-timer.C:
		return unknownStatus
	}
}

// status waits until the process was reaped, at most for statusLimit. Then it returns the exit status, which the kernel keeps
// from Linux 6.15 on.
func (s *siblingHold) status() (ws syscall.WaitStatus, ok bool) {
	fds := []unix.PollFd{{Fd: int32(sys.FD(s.Handle.pidfd))}} // POLLHUP comes when the process was reaped
	for end := time.Now().Add(statusLimit); ; {
		if _, err := unix.Poll(fds, int(time.Until(end).Milliseconds())); err != unix.EINTR || time.Now().After(end) {
			break
		}
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(int(sys.FD(s.Handle.pidfd)), &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return syscall.WaitStatus(info.Exit_code), true
}

func (s *siblingHold) Signal(sig os.Signal) error {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("%v is no signal of this system", sig)
	}
	return s.Handle.Signal(n)
}

func (s *siblingHold) kill() error {
	if err := s.Handle.Kill(); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

func (s *siblingHold) ended() bool { return s.Handle.Ended() }

func (s *siblingHold) close() { s.Handle.Close() }

func (s *siblingHold) pidfd() (*os.File, error) { return sys.DupFile(s.Handle.pidfd) }
