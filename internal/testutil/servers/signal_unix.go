//go:build unix

package servers

import "syscall"

const (
	suspend = syscall.SIGSTOP
	resume  = syscall.SIGCONT
)
