package process

import "os"

// hold is how this process waits for a started process and signals it: see ownHold and siblingHold.
type hold interface {
	// wait waits for the end of the process, and returns how the process has ended.
	wait() (status string)
	// Signal does the same as os.Process.Signal.
	Signal(os.Signal) error
	// kill kills the process, and the process group in which it was started.
	kill() error
	// pidfd returns a descriptor for FromPIDFD.
	pidfd() (*os.File, error)
	// ended reports whether the process has ended.
	ended() bool
	// close closes the descriptors of the hold.
	close()
}
