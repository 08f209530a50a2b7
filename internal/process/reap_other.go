//go:build !linux

package process

import (
	"errors"
	"os"
)

// reap waits for the end of the process, and reaps the process. reaped is set a moment after that. In this moment kill may use
// the number of the process, although another process may have got the number.
func (o *ownHold) reap() (*os.ProcessState, error) {
	state, err := o.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reaped = true
	return state, err
}

func (o *ownHold) pidfd() (*os.File, error) { return nil, errors.ErrUnsupported }
