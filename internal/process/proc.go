package process

import "syscall"

// RestoreName names this process after its program: a process that was started from a descriptor is called by the number of
// the descriptor. Elsewhere than on Linux it does nothing.
func RestoreName() { restoreName() }

// Catches reports whether a process handles a signal that would end it otherwise. A Go program always seems to. It is true
// where that cannot be found out.
func Catches(pid int, sig syscall.Signal) bool { return catches(pid, sig) }

// ParentName returns the name of the program that the parent of this process runs, at most 15 bytes of it; empty where that cannot be
// found out.
func ParentName() string { return parentName() }

// HasEnded reports whether there is no process with the number. Another process may have got it meanwhile.
func HasEnded(pid int) bool { return hasEnded(pid) }
