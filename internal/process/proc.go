package process

import "syscall"

// RestoreName gives this process the name of its program, as ps shows it: if a program was started from a descriptor, the
// name of the process is the number of the descriptor. On other systems than Linux RestoreName does nothing.
func RestoreName() { restoreName() }

// Catches reports whether a process has a handler for a signal. For a Go program the result is always true, since the Go
// runtime has handlers. The result is true too if the answer is unknown.
func Catches(pid int, sig syscall.Signal) bool { return catches(pid, sig) }

// ParentName returns the name of the parent process, at most 15 bytes; empty if the name is unknown.
func ParentName() string { return parentName() }

// HasEnded reports whether there is no process pid. If another process has got the number, the result is false.
func HasEnded(pid int) bool { return hasEnded(pid) }
