package drain

import (
	"context"
	"sync"
)

// A job is an entry of the registry that is no connection.
type job struct {
	cancel context.CancelCauseFunc // may be nil

	mu    sync.Mutex
	shown Entry // only the action changes
}

func (j *job) entry() Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.shown
}

// escalate cancels a job; nothing more can be done to a job.
func (j *job) escalate(action string) string {
	if action != stepCancel {
		return ""
	}
	j.mu.Lock()
	j.shown.Action = action
	j.mu.Unlock()
	if j.cancel != nil {
		j.cancel(ErrExpired)
	}
	return action
}
