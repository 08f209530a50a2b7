package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// ownHold is the hold on a child of this process: this process reaps the child.
type ownHold struct {
	*os.Process
	mu     sync.Mutex // kill holds mu, and so does reap while it reaps the process
	reaped bool
}

func holdOwn(pid int) (*ownHold, error) {
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("find pid %d: %w", pid, err)
	}
	return &ownHold{Process: proc}, nil
}

func (o *ownHold) wait() string {
	state, err := o.reap()
	if err != nil {
		return err.Error()
	}
	return state.String()
}

func (o *ownHold) kill() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reaped {
		return nil
	}
	err := o.Kill() // uses a pidfd on Linux
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	killGroup(o.Pid)
	return err
}

func (o *ownHold) ended() bool { return errors.Is(o.Signal(syscall.Signal(0)), os.ErrProcessDone) }

func (o *ownHold) close() {} // os.Process.Wait has released the process
