//go:build linux

package testservice

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
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

// leaveHelper starts a process that stays in the group of this one, with every descriptor that was inherited, as a wrapper
// script would: the files are passed on by their numbers.
func leaveHelper() {
	helper := exec.Command("sleep", "60")
	for fd := 3; ; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			break
		}
		helper.ExtraFiles = append(helper.ExtraFiles, os.NewFile(uintptr(fd), "inherited"))
	}
	mustMove(helper.Start())
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
