package process

import "os"

// hold is how the process is waited for and signalled.
type hold interface {
	// wait returns how the process has ended, when it has.
	wait() (status string)
	// Signal is os.Process.Signal.
	Signal(os.Signal) error
	// kill ends the process and the group that it was started in.
	kill() error
	// pidfd returns a descriptor for FromPIDFD.
	pidfd() (*os.File, error)
	// ended reports whether the process has ended.
	ended() bool
	// close gives up what the hold has open.
	close()
}
