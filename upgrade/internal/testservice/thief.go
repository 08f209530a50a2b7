//go:build linux

package testservice

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// What happens to the control socket between exec and upgrade.New.

// leaveKeeper starts a process that keeps the control socket and outlives this one.
func leaveKeeper() {
	fd, err := controlSocket()
	joinOldGroup()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "control")}
	must(errors.Join(err, cmd.Start()))
}

// stealSockets takes the message that is first in the control socket.
func stealSockets() {
	fd, err := controlSocket()
	if err == nil {
		_, _, _, _, err = unix.Recvmsg(fd, make([]byte, 64<<10), make([]byte, 4<<10), 0)
	}
	must(err)
}

// haveFewFiles limits the open files to some more than there are.
func haveFewFiles() {
	next, err := syscall.Dup(0) // the lowest number that is free
	must(err)
	must(errors.Join(syscall.Close(next), setNoFile(uint64(next)+8)))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main: before New:", err)
		os.Exit(8)
	}
}
