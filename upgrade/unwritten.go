package upgrade

import (
	"sync"
	"time"
)

// The pid file and the outcome, where they cannot be written: the disk is full, the directory was removed, there is no
// descriptor left. The main generation serves all the same, shows it in Status.Unwritten, and tries again.

// retryEvery is how often.
const retryEvery = time.Second

// The files of a service.
const (
	filePID = iota
	fileOutcome
	files
)

// unwritten has the files that could not be written.
type unwritten struct {
	mu  sync.Mutex
	all [files]attempted
}

// attempted is the last writing of a file. The error names the file; nil: the file is written.
type attempted struct {
	content any
	err     error
	again   func()
}

// note notes the result of a writing, and reports whether the result is news. again writes the file once more.
func (w *unwritten) note(file int, content any, err error, again func()) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.all[file]
	w.all[file] = attempted{content, err, again}
	return (err == nil) != (was.err == nil) || err != nil && content != was.content
}

// list returns the files that are not written.
func (w *unwritten) list() (all []attempted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.all {
		if a.err != nil {
			all = append(all, a)
		}
	}
	return all
}

// reasons are for Status.
func (w *unwritten) reasons() (all []string) {
	for _, a := range w.list() {
		all = append(all, a.err.Error())
	}
	return all
}

// writeAgain tries again.
func (w *unwritten) writeAgain() {
	for _, a := range w.list() {
		a.again()
	}
}

// retries has the times of the next tries. A try may take as long as the file system likes, so no loop waits for a try.
type retries struct {
	ticker *time.Ticker
	trying chan struct{} // closed when a try is over; nil if there is none
}

// next is the time of the next try; nil without wanted, and during a try.
func (r *retries) next(wanted bool) <-chan time.Time {
	switch {
	case !wanted || r.trying != nil:
		r.stop()
		return nil
	case r.ticker == nil:
		r.ticker = time.NewTicker(retryEvery)
	}
	return r.ticker.C
}

// try calls fn in a goroutine of its own.
func (r *retries) try(fn func()) {
	trying := make(chan struct{})
	r.trying = trying
	go func() { // ends with the try, which finish waits for
		defer close(trying)
		fn()
	}()
}

// end waits for a running try.
func (r *retries) end() {
	r.stop()
	if r.trying != nil {
		<-r.trying
	}
}

func (r *retries) stop() {
	if r.ticker != nil {
		r.ticker.Stop()
		r.ticker = nil
	}
}
