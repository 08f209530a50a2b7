//go:build !linux

package process

import (
	"errors"
	"os"
)

// reap waits for the end of the process. The process is reaped a moment before reaped is set, so kill may use its number in
// that moment.
func (o *ownHold) reap() (*os.ProcessState, error) {
	state, err := o.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reaped = true
	return state, err
}

func (o *ownHold) pidfd() (*os.File, error) { return nil, errors.ErrUnsupported }
