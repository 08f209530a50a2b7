//go:build unix

package servers

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

const (
	suspend = syscall.SIGSTOP
	resume  = syscall.SIGCONT
)

// runs reports whether a process is neither suspended nor at its end. Without /proc it is not known: the result is false.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The second field is the command in parentheses, with any bytes. After it comes the state.
	state := bytes.TrimSpace(b[bytes.LastIndexByte(b, ')')+1:])
	return len(state) > 0 && !bytes.Contains([]byte("TtZXx"), state[:1])
}
