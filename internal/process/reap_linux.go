package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reap waits for the end of the process, and gives its number back to the kernel in a moment when Kill does not use it: until
// then neither the process id nor the id of the group can be another's.
func (c *Child) reap() (*os.ProcessState, error) {
	for errors.Is(unix.Waitid(unix.P_PID, c.PID, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped = true
	return c.proc.Wait()
}
