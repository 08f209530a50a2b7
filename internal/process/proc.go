package process

import "syscall"

// RestoreName gives this process the name of its program, so that ps shows the name. If a program was started from a
// descriptor, the kernel has used the number of the descriptor as the name. On other systems than Linux RestoreName does
// nothing.
func RestoreName() { restoreName() }

// Catches reports whether a process has a handler for a signal. For a Go program the result is true, since the Go runtime has
// handlers. If the answer cannot be found out, the result is true too.
func Catches(pid int, sig syscall.Signal) bool { return catches(pid, sig) }

// ParentName returns the name of the parent process, at most 15 bytes; empty if the name is unknown.
func ParentName() string { return parentName() }

// HasEnded reports whether there is no process with this pid. If the process has ended, and another process has got the pid,
// the result is false. On Linux the result is also true for a zombie, a process that has ended and whose parent has not waited
// for its end so far.
func HasEnded(pid int) bool { return hasEnded(pid) }
