package rollout

import (
	"errors"

	"github.com/midair-go/midair/canary/judge"
)

// The errors of the methods for an operator.
var (
	// ErrFollows: another process decides.
	ErrFollows = errors.New("rollout: another process decides")
	// ErrNotReady: the canary is not ready, or Run does not run.
	ErrNotReady = errors.New("rollout: the canary is not ready")
	// ErrWorse: the canary was found to be worse, or a guard has tripped. A new version needs a new salt.
	ErrWorse = errors.New("rollout: the canary is worse than stable: release a new version with a new salt")
)

// The methods of an operator. A method that has no meaning in the present state, such as Pause after Pause, changes nothing and
// returns nil, but for the errors that its comment names.

// Pause keeps the weight until Resume. No step ends meanwhile, and a canary that is worse is still taken back. The errors are
// ErrFollows, ErrNotReady if Run does not run, and ErrWorse if the canary was rolled back.
func (r *Rollout) Pause(reason string) error { return r.operate(onPause, reason) }

// Resume goes on after Pause and after a gate. After a Hold the step lasts its whole time again, and after Abort the rollout
// begins again with the first step. The errors are ErrFollows, ErrNotReady if Run does not run, and ErrWorse if the canary was
// found to be worse: also if Options.Worse is Hold. Such a canary can only be promoted or aborted.
func (r *Rollout) Resume(reason string) error {
	if r.leads.Load() && r.evidence.Verdict() == judge.Regression {
		return ErrWorse
	}
	return r.operate(onResume, reason)
}

// Promote gives the canary all requests, whatever the evidence is. The errors are ErrFollows, ErrNotReady, and ErrWorse if the
// canary was rolled back.
func (r *Rollout) Promote(reason string) error { return r.operate(onPromote, reason) }

// Abort takes the canary back, also a canary that is promoted. The weight of this process is 0 when Abort returns. Abort works
// in each process, also before Run, and always returns nil. Options.Kill is not latched, and Resume begins again.
func (r *Rollout) Abort(reason string) error {
	r.control.fire(onAbort, reason, 0)
	r.referee.urgent()
	return nil
}

func (r *Rollout) operate(e event, reason string) error {
	switch {
	case r.follows():
		return ErrFollows
	case !r.leads.Load() || e == onPromote && !r.control.mayBegin():
		return ErrNotReady
	}
	r.control.fire(e, reason, r.canaryRequests())
	state := r.control.state()
	r.referee.urgent()
	switch {
	case state == RolledBack:
		return ErrWorse
	case e == onPromote && state != Promoted:
		return ErrNotReady
	}
	return nil
}
