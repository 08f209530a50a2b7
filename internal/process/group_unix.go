//go:build unix

package process

import "syscall"

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) } // fails if the group is empty
