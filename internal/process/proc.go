package process

import "syscall"

// RestoreName names this process after its program: a process that was started from a descriptor is called by the number of the
// descriptor. Elsewhere than on Linux RestoreName does nothing.
func RestoreName() { restoreName() }

// Catches reports whether a process handles a signal that would end the process otherwise. A Go program always seems to.
// Catches is true where the answer is unknown.
func Catches(pid int, sig syscall.Signal) bool { return catches(pid, sig) }

// ParentName returns the name of the parent's program, at most 15 bytes; empty where the name is unknown.
func ParentName() string { return parentName() }

// HasEnded reports whether there is no process with the number. Another process may have got the number meanwhile.
func HasEnded(pid int) bool { return hasEnded(pid) }
