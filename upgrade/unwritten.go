package upgrade

import (
	"sync"
	"time"
)

// What happens if the pid file or the outcome cannot be written, for example because the disk is full, the directory was
// removed, or no descriptor is left. The main generation serves nevertheless, shows the error in Status.Unwritten, and tries
// again to write the file.

// retryEvery is the time between two tries.
const retryEvery = time.Second

// The files of a service.
const (
	filePID = iota
	fileOutcome
	files
)

// unwritten has the result of the last writing of each file.
type unwritten struct {
	mu  sync.Mutex
	all [files]attempted
}

// attempted is the last writing of a file. If err is nil, the file was written. Otherwise err names the file and the reason.
// The function attempted.again writes the same content to the file once more.
type attempted struct {
	content any
	err     error
	again   func()
}

// note notes the result of a writing. The argument again is a function that writes the content once more. The result news is
// true in three cases: for an error after a success, for a success after an error, and for an error with other content than in
// the last writing.
func (w *unwritten) note(file int, content any, err error, again func()) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.all[file]
	w.all[file] = attempted{content, err, again}
	return (err == nil) != (was.err == nil) || err != nil && content != was.content
}

// list returns the last writing of each file that could not be written.
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

// reasons returns the errors of the unwritten files, for Status.
func (w *unwritten) reasons() (all []string) {
	for _, a := range w.list() {
		all = append(all, a.err.Error())
	}
	return all
}

// writeAgain tries to write the unwritten files again.
func (w *unwritten) writeAgain() {
	for _, a := range w.list() {
		a.again()
	}
}

// retries decides when this process next tries to write the files. Each try runs in its own goroutine. The loop does not wait
// for a try, because a file system may hang.
type retries struct {
	ticker *time.Ticker
	trying chan struct{} // closed at the end of the running try; nil if no try runs
}

// next returns a channel that delivers the time of the next try. The result is nil if wanted is false, or if a try is running.
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

// try begins a try: it calls fn in a goroutine of its own, and sets trying.
func (r *retries) try(fn func()) {
	trying := make(chan struct{})
	r.trying = trying
	go func() { // ends when fn returns; generation.finish waits for the end, but not long, because a file system may hang
		defer close(trying)
		fn()
	}()
}

// adopt makes r treat the end of the channel writing as the end of a try. A nil channel has no effect.
func (r *retries) adopt(writing chan struct{}) {
	if r.trying == nil {
		r.trying = writing
	}
}

// end stops the ticker, and waits up to the limit for the end of a running try. It reports whether no try runs any more.
func (r *retries) end(limit time.Duration) bool {
	r.stop()
	if r.trying == nil {
		return true
	}
	select {
	case <-r.trying:
		return true
	case <-time.After(limit):
		return false
	}
}

func (r *retries) stop() {
	if r.ticker != nil {
		r.ticker.Stop()
		r.ticker = nil
	}
}
