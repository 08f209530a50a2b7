package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reap waits for the end of the process, and then reaps the process. kill cannot run during the reaping, because kill uses the
// number of the process: after the reaping, another process or group can get this number.
func (o *ownHold) reap() (*os.ProcessState, error) {
	for errors.Is(unix.Waitid(unix.P_PID, o.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reaped = true
	return o.Wait()
}

// Describe returns the text that os.ProcessState.String returns for the status.
func Describe(ws syscall.WaitStatus) string {
	switch {
	case ws.Exited():
		return fmt.Sprintf("exit status %d", ws.ExitStatus())
	case ws.Signaled() && ws.CoreDump():
		return "signal: " + ws.Signal().String() + " (core dumped)"
	case ws.Signaled():
		return "signal: " + ws.Signal().String()
	}
	return fmt.Sprintf("wait status %#x", int(ws))
}
