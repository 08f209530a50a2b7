package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reap waits for the end of the process, and gives its number back to the kernel in a moment when kill does not use it: until
// then neither the process id nor the id of the group can be another's.
func (o *ownHold) reap() (*os.ProcessState, error) {
	for errors.Is(unix.Waitid(unix.P_PID, o.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reaped = true
	return o.Wait()
}
