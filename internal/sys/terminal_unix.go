//go:build unix

package sys

import (
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// terminal reports whether this process was started in a terminal. nohup reports whether this process was started with SIGHUP
// ignored.
var (
	terminal = startedInTerminal()
	nohup    = signal.Ignored(syscall.SIGHUP)
)

func startedInTerminal() bool {
	fd, err := openTerminal()
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

func openTerminal() (int, error) {
	return unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// watcher waits for the end of the terminal, and notes the time of the end.
type watcher struct {
	tty   *os.File
	ended atomic.Int64 // when the terminal has ended, by Uptime; 0: it has not ended yet
	done  chan struct{}
}

// endsFor is how long after the end of a terminal a SIGHUP counts as a consequence of the end. The kernel sends SIGHUP at the
// end itself, before the watcher can notice the end. A shell passes the signal on to its jobs a little later.
const endsFor = time.Second

func watchTerminal() *Terminal {
	if !terminal {
		return &Terminal{}
	}
	fd, err := openTerminal()
	if err != nil { // the terminal has ended since the start
		return &Terminal{}
	}
	w := &watcher{tty: os.NewFile(uintptr(fd), "/dev/tty"), done: make(chan struct{})}
	raw, err := w.tty.SyscallConn()
	if err != nil {
		w.tty.Close()
		return &Terminal{}
	}
	go func() { // ends with the terminal, or with Close
		defer close(w.done)
		if raw.Read(hungUp) == nil {
			w.ended.Store(int64(Uptime()))
		}
	}()
	return &Terminal{w}
}

// hungUp reports whether a terminal has ended. hungUp reads no input.
func hungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
}

func (w *watcher) ends() bool {
	if at := w.ended.Load(); at != 0 {
		return Uptime()-time.Duration(at) < endsFor
	}
	fd, err := openTerminal()
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EIO)
}

func (w *watcher) close() {
	w.tty.Close()
	<-w.done
}
