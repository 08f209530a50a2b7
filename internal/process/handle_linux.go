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

// Handle is a hold on a process, a child or not, by a pidfd: after the end of the process another process may get the number,
// and the handle still means the first process.
type Handle struct {
	pid   int
	pidfd *os.File
}

// Open takes hold of a process. The caller closes the handle. Open needs Linux 5.10.
func Open(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Handle{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// FromPIDFD makes a handle of a pidfd that another process has sent. Without an error the file becomes the handle's. The PID of
// a reaped process, or of a process of another namespace, is 0.
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
		// Not a duplicate of h: whether a descriptor waits belongs to what is open, and os waits by h.
		if fd, openErr = unix.PidfdOpen(o.Pid, unix.PIDFD_NONBLOCK); openErr != nil {
			return
		}
		if openErr = unix.PidfdSendSignal(int(h), 0, nil, 0); openErr != nil { // the number may be another's by now
			unix.Close(fd)
		}
	})
	if errors.Is(openErr, unix.ESRCH) { // package os has not noted that yet
		openErr = os.ErrProcessDone
	}
	if err := errors.Join(err, openErr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// PID returns the process id.
func (h *Handle) PID() int { return h.pid }

// Signal sends a signal. The error is ESRCH for a process that has ended.
func (h *Handle) Signal(sig syscall.Signal) error {
	return unix.PidfdSendSignal(int(sys.FD(h.pidfd)), sig, nil, 0)
}

// Kill ends the process and its process group, if the process leads a group of its own. Before Linux 6.9 the pidfd has to show
// first that the process is still there: another group could have the number. The error is of the process itself: ESRCH if the
// process has ended.
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

// Wait returns nil when the process has ended, and an error if Close comes before. Wait reaps nothing.
func (h *Handle) Wait() error {
	raw, err := h.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(sys.HasInput)
}

// Close gives the handle up, and ends a Wait. A second Close returns os.ErrClosed.
func (h *Handle) Close() error { return h.pidfd.Close() }
