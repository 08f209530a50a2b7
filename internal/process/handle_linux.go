package process

import (
	"os"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// Handle is a hold on a process, a child or not, by a pidfd: after the end of the process its number may be another's, and
// the handle is still of the one that was meant.
type Handle struct {
	pid   int
	pidfd *os.File
}

// Open takes hold of a process. Call Close when it is done with. It needs Linux 5.10.
func Open(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Handle{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// Signal sends a signal. The error is ESRCH for a process that has ended.
func (h *Handle) Signal(sig syscall.Signal) error {
	return unix.PidfdSendSignal(int(sys.FD(h.pidfd)), sig, nil, 0)
}

// Kill ends the process and what it has started, if it leads a process group of its own. The pidfd has to show first that
// the process is still there: the number of its group could be another's.
func (h *Handle) Kill() {
	if h.Signal(unix.SIGKILL) == nil {
		_ = unix.Kill(-h.pid, unix.SIGKILL)
	}
}

// Ended reports whether the process has ended.
func (h *Handle) Ended() bool { return sys.HasInput(sys.FD(h.pidfd)) }

// Wait returns nil when the process has ended, and an error if Close comes before. It reaps nothing.
func (h *Handle) Wait() error {
	raw, err := h.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(sys.HasInput)
}

// Close gives the handle up, and ends a Wait. A second Close returns os.ErrClosed.
func (h *Handle) Close() error { return h.pidfd.Close() }
