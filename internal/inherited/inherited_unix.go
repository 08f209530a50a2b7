//go:build unix

package inherited

import "syscall"

func init() {
	switch count, given := number("LISTEN_FDS"); {
	case isSet(Sentinel), isGeneration():
		// The numbers of the passed descriptors have no gap, so the loop ends at the first descriptor that was not inherited.
		// The loop does not need the count of the descriptors. In a child of another generation the count is not known yet: it
		// is read later, from the pipe that is descriptor 4.
		for fd := first; isInherited(fd); fd++ {
			syscall.CloseOnExec(fd)
		}
	case given && isOwn("LISTEN_PID"):
		for fd := first; fd < first+count && isInherited(fd); fd++ {
			syscall.CloseOnExec(fd)
		}
	}
}

// isGeneration reports whether the supervisor has started this process.
func isGeneration() bool {
	fd, ok := number(ChannelEnv)
	return ok && fd >= first && isChannel(fd)
}

func isSet(name string) bool {
	v, _ := syscall.Getenv(name)
	return v != ""
}

// isOwn reports whether the value of a variable is the process id of this process.
func isOwn(name string) bool {
	pid, ok := number(name)
	return ok && pid == syscall.Getpid()
}

// number returns the value of a variable if it is a number of at most nine digits. Package strconv must not be imported: see
// the package comment.
func number(name string) (n int, ok bool) {
	v, _ := syscall.Getenv(name)
	if v == "" || len(v) > 9 {
		return 0, false
	}
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}
