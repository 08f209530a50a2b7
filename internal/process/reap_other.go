//go:build !linux

package process

import (
	"errors"
	"os"
)

// reap waits for the end of the process and reaps it at once. kill learns of the end a moment later.
func (o *ownHold) reap() (*os.ProcessState, error) {
	state, err := o.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reaped = true
	return state, err
}

func (o *ownHold) pidfd() (*os.File, error) { return nil, errors.ErrUnsupported }
