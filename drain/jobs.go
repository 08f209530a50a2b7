package drain

import (
	"context"
	"sync"
)

// A job is an entry of the registry that is no connection: a job of Go, or an entry of Track.
type job struct {
	cancel context.CancelCauseFunc // may be nil

	mu    sync.Mutex
	shown Entry // only its field Action changes
}

func (j *job) entry() Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.shown
}

// escalate cancels the job if action is stepCancel, and returns action. Against a job there is no other step: for any other
// action escalate returns "".
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
