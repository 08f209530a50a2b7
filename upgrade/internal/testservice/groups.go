//go:build linux

package testservice

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// joinOldGroup moves this process to the process group of its parent.
func joinOldGroup() {
	group, err := syscall.Getpgid(os.Getppid())
	mustMove(errors.Join(err, syscall.Setpgid(0, group)))
}

// beginSession makes this process the leader of a session.
func beginSession() {
	joinOldGroup() // the leader of a group may not
	_, err := syscall.Setsid()
	mustMove(err)
}

// leaveHelper starts a process that stays in the group of this one, with every descriptor that was inherited.
func leaveHelper() {
	mustMove(exec.Command("sleep", "60").Start())
	joinOldGroup()
}

func mustMove(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main: leave the group:", err)
		os.Exit(8)
	}
}
