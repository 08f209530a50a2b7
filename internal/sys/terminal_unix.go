//go:build unix

package sys

import (
	"errors"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal says that this process was started in a terminal whose end matters: not by nohup, which ignores SIGHUP.
var terminal = startedInTerminal()

func startedInTerminal() bool {
	return !signal.Ignored(syscall.SIGHUP) && openTerminal() == nil
}

func openTerminal() error {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func terminalClosed() bool {
	if !terminal {
		return false
	}
	err := openTerminal()
	return errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EIO)
}
