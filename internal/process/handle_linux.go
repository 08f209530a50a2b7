package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// Handle refers to a process by its pidfd; the process need not be a child. After the end of the process another process may
// get the same number, but the handle still refers to the first process.
type Handle struct {
	pid   int
	pidfd *os.File
}

// Open returns a handle of a process. The caller closes the handle. Open needs Linux 5.10.
func Open(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Handle{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// FromPIDFD makes a handle of a pidfd that another process has sent. If there is no error, the handle owns the file. If the
// process was reaped already, or is not in the pid namespace of this process, the method PID returns 0.
func FromPIDFD(file *os.File) (*Handle, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(sys.FD(file))))
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(info), "\nPid:")
	line, _, _ := strings.Cut(rest, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if !ok || err != nil {
		return nil, fmt.Errorf("%s is no pidfd", file.Name())
	}
	if flags, err := unix.FcntlInt(sys.FD(file), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		return nil, fmt.Errorf("the pidfd of %d cannot be waited for: it was opened without PIDFD_NONBLOCK", pid)
	}
	return &Handle{pid: max(pid, 0), pidfd: file}, nil
}

func (o *ownHold) pidfd() (*os.File, error) {
	fd, openErr := -1, error(nil)
	err := o.WithHandle(func(h uintptr) {
		// h is not duplicated, because a duplicate shares the flag O_NONBLOCK with h: FromPIDFD needs the flag, and package os
		// waits with h, which must not have the flag.
		if fd, openErr = unix.PidfdOpen(o.Pid, unix.PIDFD_NONBLOCK); openErr != nil {
			return
		}
		if openErr = unix.PidfdSendSignal(int(h), 0, nil, 0); openErr != nil { // fd may refer to another process with this pid
			unix.Close(fd)
		}
	})
	if errors.Is(openErr, unix.ESRCH) { // the process was reaped, and package os has not noted this yet
		openErr = os.ErrProcessDone
	}
	if err := errors.Join(err, openErr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// PID returns the process id.
func (h *Handle) PID() int { return h.pid }

// Signal sends a signal. The error is ESRCH if the process was reaped.
func (h *Handle) Signal(sig syscall.Signal) error {
	return unix.PidfdSendSignal(int(sys.FD(h.pidfd)), sig, nil, 0)
}

// Kill kills the process, and its process group if the process leads a group. Before Linux 6.9 the group can be killed only by
// its number. After the process was reaped, another group may have this number. So Kill uses the number only if the process
// could be signalled by the pidfd. The error is about the process and not about the group: ESRCH if the process was reaped.
func (h *Handle) Kill() error {
	err := h.Signal(unix.SIGKILL)
	group := unix.PidfdSendSignal(int(sys.FD(h.pidfd)), unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	if errors.Is(group, unix.EINVAL) && err == nil && h.pid > 0 {
		_ = unix.Kill(-h.pid, unix.SIGKILL) // fails if the group is empty
	}
	return err
}

// Ended reports whether the process has ended.
func (h *Handle) Ended() bool { return sys.HasInput(sys.FD(h.pidfd)) }

// Wait waits for the end of the process, and does not reap the process. Wait returns an error if Close is called before the
// process ends.
func (h *Handle) Wait() error {
	raw, err := h.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(sys.HasInput)
}

// Close closes the pidfd, and makes a running Wait return. A second Close returns os.ErrClosed.
func (h *Handle) Close() error { return h.pidfd.Close() }
