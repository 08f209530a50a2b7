//go:build linux

package testservice

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
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

// onlyReady is a program that is ready without a word, and that no SIGTERM ends. The control socket stays open.
func onlyReady() {
	signal.Ignore(syscall.SIGTERM)
	joinOldGroup()
	_, err := os.NewFile(3, "ready").Write([]byte{42})
	mustMove(err)
	select {}
}

func mustMove(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main: leave the group:", err)
		os.Exit(8)
	}
}
