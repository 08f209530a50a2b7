package request

import (
	"errors"
	"maps"
	"net/http"
	"strings"
)

// ErrDropped is the error of a Writer whose attempt was dropped: another attempt answers the request.
var ErrDropped = errors.New("the answer of this attempt was dropped, another handler answers the request")

// A trial is an attempt to answer whose answer can be dropped until something of it is sent. It has a header of its own until then,
// which goes on to belong to the handler and the goroutines that it leaves behind. All fields are protected by Writer.mu.
type trial struct {
	header  http.Header
	refuses func(status int) bool
	state   trialState
}

type trialState uint8

const (
	trying  trialState = iota
	sent               // something was sent, or the handler has returned: the answer stands
	dropped            // nothing was sent, and nothing will be
)

// Try makes the Writer that of an attempt: as long as nothing was sent, Drop drops the answer, and so does a final status that the
// function refuses, if there is one. Try is called after Wrap and before a handler has the Writer.
func (wr *Writer) Try(refuses func(status int) bool) {
	header := wr.w.Header().Clone()
	if header == nil {
		header = http.Header{}
	}
	wr.trial = &trial{header: header, refuses: refuses}
}

// Drop drops the answer of an attempt, if nothing was sent and ok returns true, and reports whether the answer is dropped. It does
// not call ok for an answer that was dropped before.
func (wr *Writer) Drop(ok func() bool) bool {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.trial.state == trying && ok() {
		wr.trial.state = dropped
	}
	return wr.trial.state == dropped
}

// Keep is called when the handler of an attempt has returned: the answer stands, unless it was dropped. It reports whether it
// stands. The hooks have been called then, and the wrapped writer has the header and the trailers.
func (wr *Writer) Keep() bool {
	if wr.inform() != nil {
		return false
	}
	wr.Finish()
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.status.Load() == 0 {
		wr.publish()
		return true
	}
	outer := wr.w.Header()
	for name, values := range wr.trial.header {
		if strings.HasPrefix(name, http.TrailerPrefix) || has(outer["Trailer"], name) {
			outer[name] = values
		}
	}
	return true
}

// beginTrial is begin for an attempt.
func (wr *Writer) beginTrial(status int) error {
	wr.mu.Lock()
	first := wr.trial.state == trying
	if first && wr.trial.refuses != nil && wr.trial.refuses(status) {
		wr.trial.state = dropped
	}
	if wr.trial.state == dropped {
		wr.mu.Unlock()
		return ErrDropped
	}
	wr.trial.state = sent
	wr.mu.Unlock()
	if wr.out.Load() && wr.status.Load() != 0 {
		return nil
	}
	wr.Finish()
	if wr.status.CompareAndSwap(0, int32(status)) {
		wr.publish()
	}
	return nil
}

// inform is called before something is sent that is no final status. It returns ErrDropped, or nil: then the answer stands, and the
// wrapped writer has the header so far.
func (wr *Writer) inform() error {
	if wr.trial == nil {
		return nil
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.trial.state == dropped {
		return ErrDropped
	}
	wr.trial.state = sent
	if wr.status.Load() == 0 {
		wr.publish()
	}
	return nil
}

// publish gives the wrapped writer the header of the attempt.
func (wr *Writer) publish() {
	outer := wr.w.Header()
	clear(outer)
	maps.Copy(outer, wr.trial.header)
}
