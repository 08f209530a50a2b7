package upgrade

import (
	"sync"
	"time"
)

// The pid file and the outcome, where they cannot be written: the disk is full, the directory was removed, there is no
// descriptor left. The main generation serves all the same, shows it in Status.Unwritten, and tries again.

// retryEvery is how often.
const retryEvery = time.Second

// unwritten is what could not be written. The errors name the files.
type unwritten struct {
	mu      sync.Mutex
	pid     error
	outcome error
	last    Outcome // which is to be written
}

// setPID notes how the writing of the pid file went, and reports whether that is news.
func (w *unwritten) setPID(err error) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	news = (err == nil) != (w.pid == nil)
	w.pid = err
	return news
}

// setOutcome is setPID for the outcome.
func (w *unwritten) setOutcome(err error, out Outcome) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	news = (err == nil) != (w.outcome == nil) || err != nil && out != w.last
	w.outcome, w.last = err, out
	return news
}

// get returns everything; err is not nil if it is to be tried again.
func (w *unwritten) get() (pid, outcome error, last Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pid, w.outcome, w.last
}

// reasons are for Status.
func (w *unwritten) reasons() (all []string) {
	pid, outcome, _ := w.get()
	for _, err := range []error{pid, outcome} {
		if err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

// publish writes the pid file of the main generation.
func (u *Upgrader) publish() error {
	err := u.pid.Publish()
	if u.unwritten.setPID(err) && err == nil {
		u.log.Info("upgrade: the pid file is written again")
	}
	return err
}

// retries is when to try again; nil if everything is written, or if this generation is not the one to write it: in an upgrade
// the candidate may be that by now.
func (r *runner) retries() <-chan time.Time {
	if r.role != roleMain || r.attempt != nil || len(r.u.unwritten.reasons()) == 0 {
		r.stopRetries()
		return nil
	}
	if r.retry == nil {
		r.retry = time.NewTicker(retryEvery)
	}
	return r.retry.C
}

func (r *runner) stopRetries() {
	if r.retry != nil {
		r.retry.Stop()
		r.retry = nil
	}
}

// writeAgain tries to write what is not written.
func (r *runner) writeAgain() {
	pid, outcome, last := r.u.unwritten.get()
	if pid != nil {
		_ = r.u.publish() // Status says so
	}
	if outcome != nil {
		r.u.recordOutcome(last)
	}
}
